-- +goose Up

-- Who owns an address at a provider: a bot, a number, an app in a workspace, or a pool of numbers.
-- An address has one owner in the whole deployment, whatever the tenant. Its poller's lease stays
-- with the address when the owner changes. An address without an owner is free.
create table provider_addresses (
	channel     text not null,
	address     text not null,
	endpoint_id text references endpoints on delete set null,
	account     text not null default '',
	poll_holder text not null default '',
	poll_until  timestamp not null default '1970-01-01 00:00:00+00:00',
	primary key (channel, address)
);
create index provider_addresses_endpoint on provider_addresses (endpoint_id);
create index provider_addresses_account on provider_addresses (account) where account <> '';
