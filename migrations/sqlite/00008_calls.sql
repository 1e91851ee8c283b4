-- +goose Up

-- The ID of the resource that a request creates, assigned before it is processed, so that a
-- repeated request finds what an interrupted one has created.
alter table idempotency_keys add column makes text;
