-- +goose Up

-- The country, such as US, of phone numbers that staff write without a country code; null for none.
alter table instances add column default_region text;
