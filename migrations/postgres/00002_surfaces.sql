-- +goose Up

-- The columns that only conversation users have: the IDs in the application's own
-- system, and the source of the user.
alter table customers
	add column fk_id      text,
	add column fk_user_id text,
	add column source     text,
	add column context    text;
create unique index customers_fk on customers (tenant_id, fk_id) where fk_id is not null;

-- The columns that only contact identities have. An address may now be stored before it
-- has an owner or a message: without a customer, for all instances.
alter table identities
	add column avatar_url text,
	add column info_url   text,
	add column page_url   text,
	drop constraint identities_check;
