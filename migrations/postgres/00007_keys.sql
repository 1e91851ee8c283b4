-- +goose Up

-- The master keys that this database has met, by their ids. The fingerprint tells a key
-- from another one of the same id. Pseudonyms cannot be made anew under another key, so
-- that what makes them is kept, sealed, when the master key has gone.
create table master_keys (
	id          text primary key,
	fingerprint text not null,
	pseudonyms  text not null,
	created_at  timestamptz not null default now()
);

-- Secrets of instances that a newer one replaced, good beside it for a while.
create table retired_secrets (
	id          uuid primary key,
	tenant_id   uuid not null,
	instance_id uuid not null,
	kind        text not null check (kind in ('webhook_secret', 'agent_secret_key')),
	sealed      text,
	hash        text,
	until       timestamptz not null,
	created_at  timestamptz not null default now(),
	unique (tenant_id, id),
	foreign key (tenant_id, instance_id) references instances (tenant_id, id) on delete cascade
);
create index retired_secrets_instance on retired_secrets (tenant_id, instance_id, kind);
create index retired_secrets_hash on retired_secrets (hash) where hash is not null;

-- The credential that a newer one replaced is good for so many seconds after the
-- provider was told of the newer one; null: there is none, and the provider was not
-- told yet.
alter table endpoints
	add column old_for   integer check (old_for > 0),
	add column old_until timestamptz;

-- The master key on which the proof of the last claim code hangs.
alter table identities add column claim_key text;
