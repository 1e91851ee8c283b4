package slack

import (
	"hydragate/adapters"
)

// installTeam is the workspace the app is installed in. It is not always team_id:
// in a channel shared between organisations that may be the other side's.
func (e envelope) installTeam() string {
	if len(e.Authorizations) > 0 && e.Authorizations[0].TeamID != "" {
		return e.Authorizations[0].TeamID
	}
	return e.TeamID
}

// installEnterprise is the organisation of the installation, if it has one.
func (e envelope) installEnterprise() string {
	if len(e.Authorizations) > 0 && e.Authorizations[0].EnterpriseID != "" {
		return e.Authorizations[0].EnterpriseID
	}
	return e.EnterpriseID
}

// namesNoInstallation reports whether the envelope names no installation at all.
func (e envelope) namesNoInstallation() bool {
	return e.installTeam() == "" && e.installEnterprise() == ""
}

// isForeign reports whether the event was meant for another installation or another
// app than ep's. Of an endpoint whose workspace is not known yet, every one is.
func (e envelope) isForeign(ep adapters.Endpoint) bool {
	return !e.namesNoInstallation() && !equalsAny(ep.Address, e.installTeam(), e.installEnterprise()) || isOtherApp(ep, e.APIAppID)
}

// equalsAny reports whether address is one of ids.
func equalsAny(address string, ids ...string) bool {
	for _, id := range ids {
		if id != "" && id == address {
			return true
		}
	}
	return false
}

// isOtherApp reports whether appID names another app than ep's, as far as both are
// known.
func isOtherApp(ep adapters.Endpoint, appID string) bool {
	ours := ep.Settings[adapters.AppID]
	return ours != "" && appID != "" && appID != ours
}

// actorTeam is the workspace of the person who acted, after the rules of Slack's
// own SDKs. Ids in a shared channel belong to either side; where Slack names an
// organisation that cannot be resolved to a workspace it is empty, and then nobody
// is known to have acted.
func (e envelope) actorTeam(ev event) string {
	if !e.IsExtSharedChannel {
		return e.installTeam()
	}
	named := ev.UserTeam
	if named == "" {
		named = ev.Team
	}
	switch {
	case named == "":
		return ""
	case named[0] == 'T':
		return named
	case named == e.EnterpriseID:
		return e.TeamID
	case named == e.ContextEnterpriseID:
		return e.ContextTeamID
	}
	return ""
}
