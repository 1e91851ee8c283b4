package gateway

import (
	"hydragate/adapters"
	"hydragate/identity"
)

// NormalizeExternalID returns the canonical form of an external ID of a channel, as
// identity.Normalize does for the format of the channel's IDs.
func NormalizeExternalID(channel adapters.Channel, externalID string) (string, error) {
	return identity.Normalize(idFormat(channel), externalID)
}

// DisplayExternalID returns the other form in which the provider may send an external ID, as
// identity.DisplayForm does.
func DisplayExternalID(channel adapters.Channel, externalID string) string {
	return identity.DisplayForm(idFormat(channel), externalID)
}

func idFormat(channel adapters.Channel) identity.Format {
	return identity.Format(adapters.TraitsOf(channel).IDFormat)
}
