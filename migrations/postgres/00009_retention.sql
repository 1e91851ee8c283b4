-- +goose Up

-- The rows that the purge clears and later deletes, oldest first. New messages are in none of
-- these indexes; a message is added when it has been processed.
create index messages_full on messages (received_at) where state <> 'new' and body <> '{}';
create index messages_empty on messages (received_at) where body = '{}';
create index outbox_full on outbox (updated_at) where status not in ('queued', 'sending') and text <> '';
create index outbox_empty on outbox (updated_at) where text = '';
create index outbox_message on outbox (message_id) where message_id is not null;
create index deliveries_loose on deliveries (message_id, settled_at) where message_id is null;

-- The foreign key looks up both columns before a message is deleted.
drop index deliveries_message;
create index deliveries_message on deliveries (message_id, tenant_id);
