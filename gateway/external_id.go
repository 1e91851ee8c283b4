package gateway

import (
	"slices"

	"hydragate/adapters"
	"hydragate/identity"
)

// NormalizeExternalID returns the canonical form of an external ID of a channel, as
// identity.Normalize does for the format of the channel's IDs. region is the country of phone numbers
// without a country code; it may be empty.
func NormalizeExternalID(channel adapters.Channel, externalID, region string) (string, error) {
	return identity.Normalize(idFormat(channel), externalID, region)
}

// NormalizeSender returns s with its IDs in the canonical form. An ID that has none, such as a short
// code, is unchanged. Aliases without a canonical form, and those that equal the ID, are left out.
func NormalizeSender(channel adapters.Channel, s adapters.Sender) adapters.Sender {
	if id, err := NormalizeExternalID(channel, s.ID, ""); err == nil {
		s.ID = id
	}
	var aliases []string
	for _, alias := range s.Aliases {
		id, err := NormalizeExternalID(channel, alias, "")
		if err == nil && id != s.ID && !slices.Contains(aliases, id) {
			aliases = append(aliases, id)
		}
	}
	s.Aliases = aliases
	return s
}

// DisplayExternalID returns the other form in which the provider may send an external ID, as
// identity.DisplayForm does.
func DisplayExternalID(channel adapters.Channel, externalID string) string {
	return identity.DisplayForm(idFormat(channel), externalID)
}

func idFormat(channel adapters.Channel) identity.Format {
	return identity.Format(adapters.TraitsOf(channel).IDFormat)
}
