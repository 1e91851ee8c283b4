-- +goose Up

-- Several messages may be delivered as one event. Pending deliveries with the same join_key may be
-- joined. event_id is the first of the deliveries that are joined; a delivery alone names itself. It is
-- set before the first attempt, so that an event contains the same messages in each attempt.
alter table deliveries add column join_key text;
alter table deliveries add column event_id text;
