-- +goose Up

-- The id of what a call creates, given out before it is worked: made again because
-- nobody knows how it ended, it finds what it left behind.
alter table idempotency_keys add column makes text;
