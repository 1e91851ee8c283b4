-- +goose Up

-- A reply that its channel found too long is divided. Its parts are sent in its place: part_of is its seq,
-- and part has two digits for each division.
alter table outbox add column part_of bigint;
alter table outbox add column part text not null default '';
drop index outbox_pending;
create index outbox_pending on outbox (conversation_id, (coalesce(part_of, seq)), part) where status in ('queued', 'sending');
