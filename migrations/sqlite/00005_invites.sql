-- +goose Up

-- Whether staff may invite by SMS and WhatsApp, where a sender's number can be forged.
alter table instances add column sms_invites boolean not null default false;

-- An invite makes a customer's own whoever opens it first. Of its code only a hash is
-- kept, under a key that is derived from the master key named. An opening that does not
-- hold any more trips the check, and with it everything written beside it.
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
