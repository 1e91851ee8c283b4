-- +goose Up

-- The maximum age of a verification by role, and the maximum time without a message. Null
-- means no limit.
alter table instances add column owner_max_age_days integer check (owner_max_age_days > 0);
alter table instances add column customer_max_age_days integer check (customer_max_age_days > 0);
alter table instances add column silence_max_days integer check (silence_max_days > 0);

-- Why and when a verification expired, when the person was asked to verify again, and the
-- approximate time of their last message.
alter table identities add column doubted_at timestamp;
alter table identities add column doubt text check (doubt in ('expired', 'silence', 'opted_out', 'gone'));
alter table identities add column reclaim_told_at timestamp;
alter table identities add column last_heard_at timestamp;
