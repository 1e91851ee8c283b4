package httpapi

import (
	"context"
	"strings"
	"time"

	"hydragate/identity"
)

type customerAnswer struct {
	CompanyName *string   `json:"company_name"`
	CreatedAt   time.Time `json:"created_at"`
	Email       *string   `json:"email"`
	FirstName   *string   `json:"first_name"`
	ID          string    `json:"id" format:"uuid"`
	LastName    *string   `json:"last_name"`
	Locale      *string   `json:"locale"`
	Metadata    Object    `json:"metadata"`
	PhoneNumber *string   `json:"phone_number"`
	Timezone    *string   `json:"timezone"`
	UpdatedAt   time.Time `json:"updated_at"`
}

func toCustomer(c identity.Customer) customerAnswer {
	return customerAnswer{
		ID: c.ID, Email: orNull(c.Email), PhoneNumber: orNull(c.PhoneNumber), FirstName: orNull(c.FirstName), LastName: orNull(c.LastName),
		CompanyName: orNull(c.CompanyName), Locale: orNull(c.Locale), Timezone: orNull(c.Timezone), Metadata: Object(c.Metadata),
		CreatedAt: c.CreatedAt.UTC(), UpdatedAt: c.UpdatedAt.UTC(),
	}
}

// customerFields is the body of a new customer and of a change to one.
type customerFields struct {
	Email       Opt[string] `json:"email,omitempty" minLength:"1" maxLength:"254" format:"email" doc:"Unique in the tenant, without regard to case."`
	PhoneNumber Opt[string] `json:"phone_number,omitempty" minLength:"1" maxLength:"30" format:"phone" doc:"With the country code; kept in E.164."`
	FirstName   Opt[string] `json:"first_name,omitempty" maxLength:"255"`
	LastName    Opt[string] `json:"last_name,omitempty" maxLength:"255"`
	CompanyName Opt[string] `json:"company_name,omitempty" maxLength:"255"`
	Locale      Opt[string] `json:"locale,omitempty" minLength:"1" maxLength:"64" format:"bcp47"`
	Timezone    Opt[string] `json:"timezone,omitempty" minLength:"1" maxLength:"64" format:"timezone"`
	Metadata    Opt[Object] `json:"metadata,omitempty"`
}

// CustomerPath names the customer a call is about.
type CustomerPath struct {
	CustomerID string `path:"customer_id" format:"uuid"`
}

type customerOut struct{ Body customerAnswer }

func (a *API) createCustomer(ctx context.Context, in *struct{ Body customerFields }) (*customerOut, error) {
	key, b := callerOf(ctx), in.Body
	c, err := a.Store.CreateCustomer(ctx, identity.Customer{
		ID: idFor(ctx), TenantID: key.TenantID, Email: b.Email.Value, PhoneNumber: b.PhoneNumber.Value, FirstName: b.FirstName.Value, LastName: b.LastName.Value,
		CompanyName: b.CompanyName.Value, Locale: b.Locale.Value, Timezone: b.Timezone.Value, Metadata: b.Metadata.Value.raw(),
	}, key.Actor())
	return &customerOut{toCustomer(c)}, err
}

func (a *API) getCustomer(ctx context.Context, in *CustomerPath) (*customerOut, error) {
	c, err := a.Store.Customer(ctx, callerOf(ctx).TenantID, in.CustomerID)
	return &customerOut{toCustomer(c)}, about("Customer", err)
}

func (a *API) editCustomer(ctx context.Context, in *struct {
	CustomerPath
	Body customerFields
}) (*customerOut, error) {
	key, b := callerOf(ctx), in.Body
	c, err := a.Store.EditCustomer(ctx, key.TenantID, in.CustomerID, identity.CustomerEdit{
		Email: b.Email.Edit(), PhoneNumber: b.PhoneNumber.Edit(), FirstName: b.FirstName.Edit(), LastName: b.LastName.Edit(),
		CompanyName: b.CompanyName.Edit(), Locale: b.Locale.Edit(), Timezone: b.Timezone.Edit(), Metadata: editOf(b.Metadata),
	}, key.Actor())
	return &customerOut{toCustomer(c)}, about("Customer", err)
}

func (a *API) listCustomers(ctx context.Context, in *struct {
	PageOf
	Email          string `query:"email" minLength:"1" maxLength:"254" doc:"The whole address, without regard to case."`
	EmailPrefix    string `query:"email_prefix" minLength:"1" maxLength:"254" doc:"The beginning of the address, without regard to case."`
	PhoneNumber    string `query:"phone_number" minLength:"1" maxLength:"30" format:"phone" doc:"The whole number."`
	PhonePrefix    string `query:"phone_number_prefix" pattern:"^[+ ]?[0-9]{1,15}$" doc:"The beginning of the number, with the country code."`
	Name           string `query:"name" minLength:"1" maxLength:"255" doc:"The beginning of the first, last or company name."`
	ExternalID     string `query:"external_id" minLength:"1" maxLength:"255" doc:"The whole external id of one of the customer's identities."`
	ExternalPrefix string `query:"external_id_prefix" minLength:"1" maxLength:"255" doc:"The beginning of the external id of one of the customer's identities, without regard to case."`
	Channel        string `query:"channel" pattern:"^[a-z][a-z0-9_]{0,31}$" doc:"The channel of external_id, so that other spellings of it are found."`
}) (*paged[customerAnswer], error) {
	tenant := callerOf(ctx).TenantID
	q := identity.CustomerQuery{
		Email: in.Email, Phone: in.PhoneNumber, Name: strings.TrimSpace(in.Name), ExternalID: strings.TrimSpace(in.ExternalID),
		EmailPrefix: in.EmailPrefix, ExternalPrefix: strings.TrimSpace(in.ExternalPrefix),
	}
	var blank []violation // would find everybody
	for _, f := range []struct{ name, given, clean string }{
		{"name", in.Name, q.Name}, {"external_id", in.ExternalID, q.ExternalID}, {"external_id_prefix", in.ExternalPrefix, q.ExternalPrefix},
	} {
		if f.given != "" && f.clean == "" {
			blank = append(blank, valueError("a text of blanks finds nobody", "query", f.name))
		}
	}
	if blank != nil {
		return nil, invalid(blank...)
	}
	if in.PhonePrefix != "" { // a "+" in a query arrives as a blank when it was not escaped
		q.PhonePrefix = "+" + strings.TrimLeft(in.PhonePrefix, "+ ")
	}
	return pageFrom(in.PageOf, func(after string, limit int) ([]identity.Customer, error) {
		return a.Store.ListCustomers(ctx, tenant, q, after, limit)
	}, func(c identity.Customer) string { return c.ID }, toCustomer)
}
