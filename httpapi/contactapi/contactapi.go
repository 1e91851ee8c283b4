// Package contactapi serves the contact-identity API below /global and /v4/global, for applications
// that were written for a product with that API. A contact is a customer, and a contact identity is
// an identity of the native API.
package contactapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// TagContacts is the OpenAPI tag of the operations.
const TagContacts = "Contact identities"

const (
	v4Suffix        = "_v4" // of the operation IDs below /v4
	contactPageSize = 50

	identityNotFoundText = "Contact identity not found"
	identityExistsText   = "A contact identity with this type and value already exists"
)

// An API is the surface of contact identities. It accepts the API keys of the native API.
type API struct {
	Store     Store
	PublicURL string // origin of the URLs of the next and the previous page; optional
}

// Surface returns the routes of the surface and their description.
func (c *API) Surface() *operation.Surface {
	return &operation.Surface{
		Routes: c.routes(), Prefixes: []string{"/global/", "/v4/"}, FormatError: formatContactError,
		Formats: map[string]func(string) (string, *fastapi.Violation){
			formatWebURL: cleanWebURL, formatContactType: cleanContactType,
		},
		Tag: &huma.Tag{
			Name: TagContacts,
			Description: "Compatible API: the identities of customers and unknown senders as contact identities. " +
				"The same paths are also under /v4.",
		},
		ErrorSchema: "ContactError", Schema: contactErrorSchema(), ErrorStatuses: []int{400, 401, 403, 429, 500, 503},
		Security:       []map[string][]string{{operation.Bearer: {}}, {"apiKey": {}}},
		Descriptions:   contactBodyFields(),
		DescribeAccess: func(to *operation.Route) string { return "Requires the scope `" + to.Scope + "`." },
	}
}

func (c *API) routes() []*operation.Route {
	shown, described := contactExamples(), contactDescriptions()
	var all []*operation.Route
	for _, version := range []struct{ prefix, suffix string }{{"", ""}, {"/v4", v4Suffix}} {
		list, one := version.prefix+"/global/contactIdentities", version.prefix+"/global/contactIdentities/{id}"
		all = append(all,
			&operation.Route{
				ID:      "contact_list_identities",
				Method:  "GET",
				Path:    list,
				Scope:   "identities:read",
				Summary: "List contact identities",
				Status:  200,
				Handler: operation.Handle(c.contactLister(version.prefix)),
			},
			&operation.Route{
				ID: "contact_get_identity", Method: "GET", Path: one, Scope: "identities:read",
				Summary: "Get a contact identity", Status: 200, Handler: operation.Handle(c.getContact),
			},
			&operation.Route{
				ID: "contact_create_identity", Method: "POST", Path: list, Scope: "identities:write",
				Summary: "Create a contact identity", Status: 201, Handler: operation.Handle(c.createContact),
				Traits: operation.MayConflict | operation.MayNotExist,
			},
			&operation.Route{
				ID:      "contact_replace_identity",
				Method:  "PUT",
				Path:    one,
				Scope:   "identities:write",
				Summary: "Replace a contact identity",
				Status:  200,
				Handler: operation.Handle(c.replaceContact),
				Traits:  operation.MayConflict,
			},
			&operation.Route{
				ID: "contact_delete_identity", Method: "DELETE", Path: one, Scope: "identities:write",
				Summary: "Delete a contact identity", Status: 204, Handler: operation.Handle(c.deleteContact),
			},
		)
		for _, to := range all[len(all)-5:] {
			to.Tag, to.Example, to.Description = TagContacts, shown[to.ID], described[to.ID]
			to.Example.NotFound, to.Example.Conflict = identityNotFoundText, identityExistsText
			to.ID += version.suffix
		}
	}
	return all
}

type contactResponse struct {
	ID                     string  `json:"id" format:"uuid"`
	ContactID              *string `json:"contactId" format:"uuid"`
	ContactIdentityType    string  `json:"contactIdentityType"`
	Name                   *string `json:"name"`
	Value                  string  `json:"value"`
	AvatarURL              *string `json:"avatarUrl"`
	InfoURL                *string `json:"infoUrl"`
	ScreenName             *string `json:"screenName"`
	OriginalContactPageURL *string `json:"originalContactPageUrl"`
}

func toContact(i identity.ContactIdentity) contactResponse {
	return contactResponse{
		ID:                     i.ID,
		ContactID:              operation.NullableString(i.CustomerID),
		ContactIdentityType:    contactType(i.Channel),
		Name:                   operation.NullableString(i.DisplayName),
		Value:                  i.ExternalID,
		AvatarURL:              operation.NullableString(i.AvatarURL),
		InfoURL:                operation.NullableString(i.InfoURL),
		ScreenName:             operation.NullableString(i.Username),
		OriginalContactPageURL: operation.NullableString(i.PageURL),
	}
}

type contactPage struct {
	ContactIdentities []contactResponse `json:"contactIdentities" nullable:"false"`
	NextPage          *string           `json:"nextPage" format:"uri"`
	PreviousPage      *string           `json:"previousPage" format:"uri"`
	Total             int               `json:"total"`
}

type contactPageQuery struct {
	PageIndex int `query:"pageIndex" minimum:"1" maximum:"1000000" default:"1" doc:"Number of the page, from 1. A page has up to 50 items."`
}

// contactLister returns the handler of the list below a path prefix. The URLs of other pages have
// the same prefix.
func (c *API) contactLister(
	prefix string,
) func(context.Context, *contactPageQuery) (*struct{ Body contactPage }, error) {
	page := func(n int) *string {
		uri := strings.TrimSuffix(c.PublicURL, "/") + prefix + "/global/contactIdentities?pageIndex=" + strconv.Itoa(n)
		return &uri
	}
	return func(ctx context.Context, in *contactPageQuery) (*struct{ Body contactPage }, error) {
		key := operation.CallerOf(ctx)
		before := (in.PageIndex - 1) * contactPageSize
		identities, total, err := c.Store.ContactIdentities(ctx, identity.ContactQuery{
			TenantID: key.TenantID, InstanceID: key.InstanceID, Skip: before, Limit: contactPageSize,
		})
		if err != nil {
			return nil, err
		}
		out := contactPage{ContactIdentities: []contactResponse{}, Total: total}
		for _, i := range identities {
			out.ContactIdentities = append(out.ContactIdentities, toContact(i))
		}
		if before > 0 {
			out.PreviousPage = page(in.PageIndex - 1)
		}
		if before+contactPageSize < total {
			out.NextPage = page(in.PageIndex + 1)
		}
		return &struct{ Body contactPage }{out}, nil
	}
}

// ContactPath is the path parameter of a contact identity. An ID that is not a UUID is not found.
type ContactPath struct {
	ID string `path:"id" maxLength:"255" doc:"ID of the contact identity."`
}

type contactOut struct{ Body contactResponse }

func (c *API) getContact(ctx context.Context, in *ContactPath) (*contactOut, error) {
	i, err := c.findContact(ctx, in.ID)
	return &contactOut{toContact(i)}, err
}

// findContact returns a contact identity that the caller may read.
func (c *API) findContact(ctx context.Context, id string) (identity.ContactIdentity, error) {
	id, reason := fastapi.ParseUUID(id)
	if reason != "" {
		return identity.ContactIdentity{}, contactNotFound()
	}
	key := operation.CallerOf(ctx)
	i, err := c.Store.ContactIdentity(ctx, key.TenantID, id)
	if err == nil && !operation.CanReadIdentity(key, i.Identity) {
		err = identity.ErrNotFound
	}
	return i, mapContactError(err)
}

// contactNotFound returns the response for an unknown contact identity.
func contactNotFound() *fastapi.Problem {
	return fastapi.NewProblem(http.StatusNotFound, identityNotFoundText)
}

// mapContactError replaces errors of the store by the responses of this surface.
func mapContactError(err error) error {
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return contactNotFound()
	case errors.Is(err, identity.ErrNoContact):
		return fastapi.NotFound("Contact")
	case errors.Is(err, identity.ErrAlreadyLinked):
		return fastapi.NewProblem(http.StatusConflict, identityExistsText)
	}
	return err
}

// contactFields is the request body for creating and replacing a contact identity.
type contactFields struct {
	ContactIdentityType    string                   `json:"contactIdentityType" format:"contact-identity-type"`
	Value                  string                   `json:"value" minLength:"1" maxLength:"255"`
	ContactID              fastapi.Optional[string] `json:"contactId,omitempty" format:"uuid"`
	Name                   fastapi.Optional[string] `json:"name,omitempty" maxLength:"255"`
	AvatarURL              fastapi.Optional[string] `json:"avatarUrl,omitempty" maxLength:"2048" format:"web-url"`
	InfoURL                fastapi.Optional[string] `json:"infoUrl,omitempty" maxLength:"2048" format:"web-url"`
	ScreenName             fastapi.Optional[string] `json:"screenName,omitempty" maxLength:"255"`
	OriginalContactPageURL fastapi.Optional[string] `json:"originalContactPageUrl,omitempty" maxLength:"2048" format:"web-url"`
}

// contact returns the identity that the body describes, or a problem if the value is not valid for
// the type.
func (b contactFields) contact(ctx context.Context, tenant string) (identity.ContactIdentity, error) {
	channel := strings.ToLower(b.ContactIdentityType)
	value, err := operation.NormalizeExternalID(ctx, channel, b.Value, "")
	if err != nil {
		return identity.ContactIdentity{}, fastapi.ValidationProblem(fastapi.ValueError(
			strings.NewReplacer("an external_id", "a value", "external_id", "value").Replace(err.Error()), "body", "value",
		))
	}
	return identity.ContactIdentity{
		Identity: identity.Identity{
			TenantID:    tenant,
			CustomerID:  b.ContactID.Value,
			Channel:     channel,
			ExternalID:  value,
			DisplayName: b.Name.Value,
			Username:    b.ScreenName.Value,
		},
		AvatarURL: b.AvatarURL.Value, InfoURL: b.InfoURL.Value, PageURL: b.OriginalContactPageURL.Value,
	}, nil
}

func (c *API) createContact(ctx context.Context, in *struct{ Body contactFields }) (*contactOut, error) {
	key := operation.CallerOf(ctx)
	i, err := in.Body.contact(ctx, key.TenantID)
	if err != nil {
		return nil, err
	}
	i.InstanceID = key.InstanceID
	i, err = c.Store.CreateContactIdentity(ctx, i, key.Actor())
	return &contactOut{toContact(i)}, mapContactError(err)
}

func (c *API) replaceContact(ctx context.Context, in *struct {
	ContactPath
	Body contactFields
},
) (*contactOut, error) {
	key := operation.CallerOf(ctx)
	current, err := c.findWritableContact(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	i, err := in.Body.contact(ctx, key.TenantID)
	if err != nil {
		return nil, err
	}
	i.ID, i.InstanceID = current.ID, current.InstanceID
	i, err = c.Store.ReplaceContactIdentity(ctx, i, in.Body.Name.Edit(), key.Actor())
	return &contactOut{toContact(i)}, mapContactError(err)
}

func (c *API) deleteContact(ctx context.Context, in *ContactPath) (*operation.NoBody, error) {
	key := operation.CallerOf(ctx)
	current, err := c.findWritableContact(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	err = c.Store.DeleteContactIdentity(ctx, identity.SenderKey{
		TenantID: key.TenantID, InstanceID: current.InstanceID, IdentityID: current.ID,
	}, key.Actor())
	return nil, mapContactError(err)
}

// findWritableContact returns a contact identity that the caller may change.
func (c *API) findWritableContact(ctx context.Context, id string) (identity.ContactIdentity, error) {
	i, err := c.findContact(ctx, id)
	if err == nil {
		err = operation.CheckIdentityWrite(operation.CallerOf(ctx), i.Identity)
	}
	return i, err
}
