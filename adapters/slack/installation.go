package slack

import (
	"cmp"

	"hydragate/adapters"
)

// installTeam returns the workspace in which the app is installed. It may differ from team_id,
// which can be that of the other side of a shared channel.
func (e envelope) installTeam() string {
	if len(e.Authorizations) > 0 && e.Authorizations[0].TeamID != "" {
		return e.Authorizations[0].TeamID
	}
	return e.TeamID
}

// installEnterprise returns the organization of the installation, if there is one.
func (e envelope) installEnterprise() string {
	if len(e.Authorizations) > 0 && e.Authorizations[0].EnterpriseID != "" {
		return e.Authorizations[0].EnterpriseID
	}
	return e.EnterpriseID
}

// namesNoInstallation reports whether the envelope names no installation.
func (e envelope) namesNoInstallation() bool {
	return e.installTeam() == "" && e.installEnterprise() == ""
}

// isForeign reports whether the event is for another installation or app than that of ep. It
// returns true if the workspace of ep is unknown.
func (e envelope) isForeign(ep adapters.Endpoint) bool {
	return !e.namesNoInstallation() && !equalsAny(ep.Address, e.installTeam(), e.installEnterprise()) ||
		isOtherApp(ep, e.APIAppID)
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

// isOtherApp reports whether appID is known to differ from the app of ep.
func isOtherApp(ep adapters.Endpoint, appID string) bool {
	ours := ep.Settings[adapters.AppID]
	return ours != "" && appID != "" && appID != ours
}

// actorTeam returns the workspace of the person who acted, by the rules of Slack's SDKs. That of the
// members of the installation is the address of ep: an organization has several workspaces, and its
// people have one ID in all of them. IDs in a shared channel belong to either side. An event that
// names another workspace as that of the person is believed in every channel. If Slack names an
// organization that cannot be resolved to a workspace, the result is empty and the sender is unknown.
func (e envelope) actorTeam(ev event, ep adapters.Endpoint) string {
	named := cmp.Or(ev.UserTeam, ev.SourceTeam)
	if e.IsExtSharedChannel {
		named = cmp.Or(named, ev.Team)
	} else if named == "" || e.isOrganizationUser(ev.User) {
		return ep.Address
	}
	team := e.resolveTeam(named)
	if team != "" && (named == ep.Address || team == e.memberTeam()) {
		return ep.Address
	}
	return team
}

// memberTeam returns the workspace of the installation whose people the event is about. In a shared
// channel team_id may be that of the other side.
func (e envelope) memberTeam() string {
	if e.IsExtSharedChannel && len(e.Authorizations) > 0 {
		return e.Authorizations[0].TeamID
	}
	return e.installTeam()
}

// isOrganizationUser reports whether the person belongs to the organization of the installation,
// whichever of its workspaces the event names as theirs.
func (e envelope) isOrganizationUser(user string) bool {
	return !e.IsExtSharedChannel && isOrganizationID(user) && e.installEnterprise() != "" &&
		(e.EnterpriseID == "" || e.EnterpriseID == e.installEnterprise())
}

// isOrganizationID reports whether user is an ID that only organizations assign. People keep it in
// all workspaces of their organization.
func isOrganizationID(user string) bool { return isUserID(user) && user[0] == 'W' }

// resolveTeam returns the workspace that Slack names by itself or by its organization, or "" if it is
// unknown.
func (e envelope) resolveTeam(named string) string {
	switch {
	case named == "":
		return ""
	case named[0] == 'T':
		return named
	case named == e.EnterpriseID:
		return e.TeamID
	case named == e.ContextEnterpriseID:
		return e.ContextTeamID
	case named == e.installEnterprise():
		return e.installTeam()
	}
	return ""
}

// namesOtherTeam reports whether ev names a workspace, as that of the person or of the place where
// they wrote, that is not known to be the one in which the app is installed.
func (e envelope) namesOtherTeam(ev event, ep adapters.Endpoint) bool {
	for _, named := range []string{ev.UserTeam, ev.SourceTeam} {
		if named != "" && !e.isOrganizationUser(ev.User) &&
			!equalsAny(e.resolveTeam(named), ep.Address, e.installTeam()) {
			return true
		}
	}
	return false
}
