-- +goose Up

-- Texts are compared and searched in the folded form of the program (identity.Fold), which the two
-- databases cannot compute alike. Rows that exist get the form of the database, which is the same for
-- ASCII; they get the other one when they are changed.
alter table customers add column email_fold text;
alter table customers add column first_name_fold text;
alter table customers add column last_name_fold text;
alter table customers add column company_name_fold text;
update customers set email_fold = lower(email), first_name_fold = lower(first_name), last_name_fold = lower(last_name),
	company_name_fold = lower(company_name);
alter table merged_customers add column email_fold text;
alter table merged_customers add column first_name_fold text;
alter table merged_customers add column last_name_fold text;
alter table merged_customers add column company_name_fold text;
update merged_customers set email_fold = lower(email), first_name_fold = lower(first_name), last_name_fold = lower(last_name),
	company_name_fold = lower(company_name);
drop index customers_email;
drop index customers_email_prefix;
drop index customers_first_name;
drop index customers_last_name;
drop index customers_company;
create unique index customers_email on customers (tenant_id, email_fold) where email_fold is not null;
create index customers_email_prefix on customers (tenant_id, email_fold text_pattern_ops);
create index customers_first_name on customers (tenant_id, first_name_fold text_pattern_ops);
create index customers_last_name on customers (tenant_id, last_name_fold text_pattern_ops);
create index customers_company on customers (tenant_id, company_name_fold text_pattern_ops);
