-- +goose Up

-- Other IDs of an external account, such as the user ID that WhatsApp sends beside a phone number or in
-- place of it. Messages from alias are those of external_id, in the chat place_id. disputed_at is set if
-- the provider also sent the alias with another account: it then stands for none.
create table aliases (
	tenant_id   uuid not null references tenants,
	channel     text not null,
	alias       text not null,
	external_id text not null,
	place_id    text not null,
	disputed_at timestamptz,
	created_at  timestamptz not null default now(),
	primary key (tenant_id, channel, alias)
);
create index aliases_external_id on aliases (tenant_id, channel, external_id);
