-- +goose Up

-- Whether invites by SMS and WhatsApp are allowed, where a sender's number can be forged.
alter table instances add column sms_invites boolean not null default false;

-- An invite is a single-use code that links the first account to redeem it to a customer.
-- Only a keyed hash of the code is stored, with the ID of the master key. A redemption
-- that is no longer valid violates the check, which rolls back the transaction.
create table invites (
	id            text primary key,
	tenant_id     text not null,
	instance_id   text not null,
	customer_id   text not null,
	channel       text not null,
	role_override text check (role_override = 'owner'),
	mac           text not null unique,
	key_id        text not null,
	fence         integer not null default 0 constraint invites_fence check (fence >= 0),
	created_at    timestamp not null default (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')),
	expires_at    timestamp not null,
	used_msg      text,
	used_at       timestamp,
	identity_id   text,
	revoked_at    timestamp,
	unique (tenant_id, id),
	foreign key (tenant_id, instance_id) references instances (tenant_id, id) on delete cascade,
	foreign key (tenant_id, customer_id) references customers (tenant_id, id) on delete cascade
);
create index invites_customer on invites (tenant_id, customer_id, id);
create index invites_instance on invites (tenant_id, instance_id);
create index invites_expires on invites (expires_at);
