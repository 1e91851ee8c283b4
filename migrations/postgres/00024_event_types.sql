-- +goose Up

-- The types of events that the application receives, such as ",message.received,identity.opted_out,".
-- Null: the default of the program.
alter table instances add column events text;

-- A notice does not hold up the events after it: while its delivery fails, they are delivered first.
alter table deliveries add column notice boolean not null default false;
create index deliveries_notices on deliveries (conversation_id, due_at) where status = 'pending' and notice;

-- The event about the last opt-out or opt-in of the identity, so that each change is reported once.
alter table identities add column subscription_event uuid;
