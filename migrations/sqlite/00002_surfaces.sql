-- +goose Up

-- The columns that only conversation users have: the IDs in the application's own
-- system, and the source of the user.
alter table customers add column fk_id text;
alter table customers add column fk_user_id text;
alter table customers add column source text;
alter table customers add column context text;
create unique index customers_fk on customers (tenant_id, fk_id) where fk_id is not null;

-- The columns that only contact identities have. An address may now be stored before it
-- has an owner or a message: without a customer, for all instances. SQLite must recreate
-- the table to drop the check that prevented it.
create table identities_new (
	id               text primary key,
	tenant_id        text not null references tenants,
	instance_id      text,
	customer_id      text,
	channel          text not null,
	external_id      text not null,
	display_name     text,
	username         text,
	role_override    text check (role_override = 'owner'),
	metadata         text not null default '{}',
	verified_at      timestamp,
	claim_gen        integer not null default 0 constraint identities_claim check (claim_gen >= 0),
	claim_expires_at timestamp,
	claim_used_msg   text,
	claim_revoked_at timestamp,
	unlink_asked_at  timestamp,
	opted_out_at     timestamp,
	blocked_at       timestamp,
	created_at       timestamp not null,
	updated_at       timestamp not null,
	avatar_url       text,
	info_url         text,
	page_url         text,
	unique (tenant_id, id),
	foreign key (tenant_id, instance_id) references instances (tenant_id, id) on delete cascade,
	foreign key (tenant_id, customer_id) references customers (tenant_id, id),
	check (customer_id is not null or (verified_at is null and role_override is null))
);
insert into identities_new (id, tenant_id, instance_id, customer_id, channel, external_id, display_name, username, role_override, metadata, verified_at,
	claim_gen, claim_expires_at, claim_used_msg, claim_revoked_at, unlink_asked_at, opted_out_at, blocked_at, created_at, updated_at)
select id, tenant_id, instance_id, customer_id, channel, external_id, display_name, username, role_override, metadata, verified_at,
	claim_gen, claim_expires_at, claim_used_msg, claim_revoked_at, unlink_asked_at, opted_out_at, blocked_at, created_at, updated_at
from identities;
drop table identities;
alter table identities_new rename to identities;
create unique index identities_address on identities
	(tenant_id, channel, external_id, coalesce(instance_id, '00000000-0000-0000-0000-000000000000'));
create index identities_customer on identities (tenant_id, customer_id, created_at) where customer_id is not null;
create index identities_unknown on identities (tenant_id, id) where customer_id is null;
