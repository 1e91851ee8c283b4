package httpapi

import (
	"context"
	"errors"
	"strings"
	"time"

	"hydragate/claim"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// CustomerStore stores customers. Its methods return identity.ErrNotFound for unknown customers.
type CustomerStore interface {
	// CreateCustomer stores a customer. It returns identity.ErrEmailTaken if another customer has
	// the email address.
	CreateCustomer(ctx context.Context, c identity.Customer, by identity.Actor) (identity.Customer, error)
	Customer(ctx context.Context, tenant, id string) (identity.Customer, error)
	// EditCustomer returns identity.ErrGrantRequired if the edit requires MayGrant.
	EditCustomer(
		ctx context.Context, tenant, id string, e identity.CustomerEdit, by identity.Actor,
	) (identity.Customer, error)
	ListCustomers(
		ctx context.Context, tenant string, q identity.CustomerQuery, after string, limit int,
	) ([]identity.Customer, error)
	// DeleteCustomer removes a customer, its identities, and the records needed to undo merges into
	// it. Conversations remain, without a customer. It returns the targets whose claim codes are
	// void.
	DeleteCustomer(ctx context.Context, tenant, id string, by identity.Actor) (void []claim.Target, err error)
	// EraseCustomer is DeleteCustomer that also removes all personal data. It also accepts deleted
	// customers.
	EraseCustomer(ctx context.Context, tenant, id string, by identity.Actor) (void []claim.Target, err error)
}

type customerResponse struct {
	CompanyName *string        `json:"company_name"`
	CreatedAt   time.Time      `json:"created_at"`
	Email       *string        `json:"email"`
	FirstName   *string        `json:"first_name"`
	ID          string         `json:"id" format:"uuid"`
	LastName    *string        `json:"last_name"`
	Locale      *string        `json:"locale"`
	Metadata    fastapi.Object `json:"metadata"`
	PhoneNumber *string        `json:"phone_number"`
	Timezone    *string        `json:"timezone"`
	UpdatedAt   time.Time      `json:"updated_at"`
}

func toCustomer(c identity.Customer) customerResponse {
	return customerResponse{
		ID:          c.ID,
		Email:       operation.NullableString(c.Email),
		PhoneNumber: operation.NullableString(c.PhoneNumber),
		FirstName:   operation.NullableString(c.FirstName),
		LastName:    operation.NullableString(c.LastName),
		CompanyName: operation.NullableString(c.CompanyName),
		Locale:      operation.NullableString(c.Locale),
		Timezone:    operation.NullableString(c.Timezone),
		Metadata:    fastapi.Object(c.Metadata),
		CreatedAt:   c.CreatedAt.UTC(),
		UpdatedAt:   c.UpdatedAt.UTC(),
	}
}

// customerFields is the request body for creating and changing a customer.
type customerFields struct {
	Email       fastapi.Optional[string]         `json:"email,omitempty" minLength:"1" maxLength:"254" format:"email"`
	PhoneNumber fastapi.Optional[string]         `json:"phone_number,omitempty" minLength:"1" maxLength:"30" format:"phone"`
	FirstName   fastapi.Optional[string]         `json:"first_name,omitempty" maxLength:"255"`
	LastName    fastapi.Optional[string]         `json:"last_name,omitempty" maxLength:"255"`
	CompanyName fastapi.Optional[string]         `json:"company_name,omitempty" maxLength:"255"`
	Locale      fastapi.Optional[string]         `json:"locale,omitempty" minLength:"1" maxLength:"64" format:"bcp47"`
	Timezone    fastapi.Optional[string]         `json:"timezone,omitempty" minLength:"1" maxLength:"64" format:"timezone"`
	Metadata    fastapi.Optional[fastapi.Object] `json:"metadata,omitempty"`
}

// CustomerPath is the path parameter of a customer.
type CustomerPath struct {
	CustomerID string `path:"customer_id" format:"uuid" doc:"ID of the customer."`
}

type customerOut struct{ Body customerResponse }

func (a *API) createCustomer(ctx context.Context, in *struct{ Body customerFields }) (*customerOut, error) {
	key, b := operation.CallerOf(ctx), in.Body
	c, err := a.Stores.Customers.CreateCustomer(ctx, identity.Customer{
		ID:          resourceID(ctx),
		TenantID:    key.TenantID,
		Email:       b.Email.Value,
		PhoneNumber: b.PhoneNumber.Value,
		FirstName:   b.FirstName.Value,
		LastName:    b.LastName.Value,
		CompanyName: b.CompanyName.Value,
		Locale:      b.Locale.Value,
		Timezone:    b.Timezone.Value,
		Metadata:    b.Metadata.Value.Raw(),

		CreatedByInstance: key.InstanceID,
	}, key.Actor())
	return &customerOut{toCustomer(c)}, err
}

func (a *API) getCustomer(ctx context.Context, in *CustomerPath) (*customerOut, error) {
	c, err := a.Stores.Customers.Customer(ctx, operation.CallerOf(ctx).TenantID, in.CustomerID)
	return &customerOut{toCustomer(c)}, operation.NameNotFound("Customer", err)
}

func (a *API) editCustomer(ctx context.Context, in *struct {
	CustomerPath
	Body customerFields
},
) (*customerOut, error) {
	key, b := operation.CallerOf(ctx), in.Body
	c, err := a.Stores.Customers.EditCustomer(ctx, key.TenantID, in.CustomerID, identity.CustomerEdit{
		Email:       b.Email.Edit(),
		PhoneNumber: b.PhoneNumber.Edit(),
		FirstName:   b.FirstName.Edit(),
		LastName:    b.LastName.Edit(),
		CompanyName: b.CompanyName.Edit(),
		Locale:      b.Locale.Edit(),
		Timezone:    b.Timezone.Edit(),
		Metadata:    fastapi.MetadataEdit(b.Metadata),
		MayGrant:    key.HasScope("identities:grant"),

		GrantInstance: key.InstanceID,
	}, key.Actor())
	switch {
	case !errors.Is(err, identity.ErrGrantRequired):
	case key.HasScope("identities:grant"):
		return nil, operation.KeyLimitedProblem()
	default:
		return nil, operation.MissingScope("identities:grant")
	}
	return &customerOut{toCustomer(c)}, operation.NameNotFound("Customer", err)
}

func (a *API) listCustomers(ctx context.Context, in *struct {
	operation.PageQuery
	Email          string `query:"email" minLength:"1" maxLength:"254" doc:"Whole email address, regardless of case."`
	EmailPrefix    string `query:"email_prefix" minLength:"1" maxLength:"254" doc:"Beginning of the email address, regardless of case."`
	PhoneNumber    string `query:"phone_number" minLength:"1" maxLength:"30" format:"phone" doc:"Whole phone number."`
	PhonePrefix    string `query:"phone_number_prefix" pattern:"^[+ ]?[0-9]{1,15}$" doc:"Beginning of the phone number, with country code."`
	Name           string `query:"name" minLength:"1" maxLength:"255" doc:"Beginning of the first name, last name or company name."`
	ExternalID     string `query:"external_id" minLength:"1" maxLength:"255" doc:"Whole external_id of one of the customer's identities."`
	ExternalPrefix string `query:"external_id_prefix" minLength:"1" maxLength:"255" doc:"Beginning of the external_id of one of the customer's identities, regardless of case."`
	Channel        string `query:"channel" pattern:"^[a-z][a-z0-9_]{0,31}$" doc:"Channel of external_id, so that other spellings of it are found too."`
},
) (*operation.PageOut[customerResponse], error) {
	key := operation.CallerOf(ctx)
	q := identity.CustomerQuery{
		InstanceID:     key.InstanceID,
		Email:          in.Email,
		Phone:          in.PhoneNumber,
		Name:           strings.TrimSpace(in.Name),
		ExternalID:     strings.TrimSpace(in.ExternalID),
		EmailPrefix:    in.EmailPrefix,
		ExternalPrefix: strings.TrimSpace(in.ExternalPrefix),
	}
	var blank []fastapi.Violation // a blank filter would match all customers
	for _, f := range []struct{ name, value, trimmed string }{
		{"name", in.Name, q.Name},
		{"external_id", in.ExternalID, q.ExternalID},
		{"external_id_prefix", in.ExternalPrefix, q.ExternalPrefix},
	} {
		if f.value != "" && f.trimmed == "" {
			blank = append(blank, fastapi.ValueError("must not be blank", "query", f.name))
		}
	}
	if blank != nil {
		return nil, fastapi.ValidationProblem(blank...)
	}
	if in.PhonePrefix != "" { // an unescaped "+" in a query is decoded as a space
		q.PhonePrefix = "+" + strings.TrimLeft(in.PhonePrefix, "+ ")
	}
	return operation.FetchPage(in.PageQuery, func(after string, limit int) ([]identity.Customer, error) {
		return a.Stores.Customers.ListCustomers(ctx, key.TenantID, q, after, limit)
	}, func(c identity.Customer) string { return c.ID }, toCustomer)
}

// A CodeDropper drops the claim codes of a target.
type CodeDropper interface {
	Drop(ctx context.Context, s claim.Target) error
}

func (a *API) deleteCustomer(ctx context.Context, in *struct {
	CustomerPath
	Erase bool `query:"erase" default:"false" doc:"Also remove the customer's personal data."`
},
) (*operation.NoBody, error) {
	key := operation.CallerOf(ctx)
	if key.InstanceID != "" {
		return nil, operation.KeyLimitedProblem()
	}
	remove := a.Stores.Customers.DeleteCustomer
	if in.Erase {
		remove = a.Stores.Customers.EraseCustomer
	}
	void, err := remove(ctx, key.TenantID, in.CustomerID, key.Actor())
	if err != nil {
		return nil, operation.NameNotFound("Customer", err)
	}
	a.dropCodes(ctx, void)
	return &operation.NoBody{}, nil
}

// dropCodes drops the claim codes of deleted identities. If that fails, the codes expire by
// themselves; the database already rejects them.
func (a *API) dropCodes(ctx context.Context, void []claim.Target) {
	if a.CodeDropper == nil {
		return
	}
	for _, s := range void {
		if err := a.CodeDropper.Drop(ctx, s); err != nil {
			a.Log.WarnContext(ctx, "drop codes of deleted identities failed",
				"request_id", operation.RequestInfoOf(ctx).ID, "error", err)
			return
		}
	}
}
