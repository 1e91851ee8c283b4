-- +goose Up

-- What conversation users have beyond customers: the ids of the agent's own system,
-- and how they came.
alter table customers
	add column fk_id      text,
	add column fk_user_id text,
	add column source     text,
	add column context    text;
create unique index customers_fk on customers (tenant_id, fk_id) where fk_id is not null;

-- What contact identities have beyond identities. An address may now be noted before
-- anybody owns it or wrote from it: nobody's, and of every instance.
alter table identities
	add column avatar_url text,
	add column info_url   text,
	add column page_url   text,
	drop constraint identities_check;
