-- +goose Up

-- Unlinking by SMS or WhatsApp is confirmed with a word. Wrong words are counted for a day from the
-- first of them.
alter table identities add column unlink_word text;
alter table identities add column unlink_failures integer not null default 0;
alter table identities add column unlink_failed_at timestamp;

-- The replies of the gateway itself, which are limited per instance and hour on paid channels.
create index outbox_command on outbox (tenant_id, instance_id, created_at) where cause = 'command';
