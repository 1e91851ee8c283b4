package claim

import "testing"

func TestDecision_SilentOnPaidChannels(t *testing.T) {
	for _, c := range []struct {
		name       string
		paid       bool
		customerID string
		failures   Failures
		want       bool
	}{
		{name: "free channel", failures: Failures{Hour: 4, Day: 4}},
		{name: "first failure of an unknown sender", paid: true},
		{name: "second failure of an unknown sender", paid: true, failures: Failures{Hour: 1, Day: 1}, want: true},
		{name: "third failure of a customer", paid: true, customerID: "steve", failures: Failures{Hour: 2, Day: 2}},
		{
			name: "fourth failure of a customer", paid: true, customerID: "steve", failures: Failures{Hour: 3, Day: 3},
			want: true,
		},
		{name: "failures of another hour", paid: true, customerID: "steve", failures: Failures{Hour: 2, Day: 9}},
	} {
		a := Attempt{Paid: c.paid, MessageID: "message", IdentityID: "identity"}
		var code, invite Decision
		CodeState{CustomerID: c.customerID, Failures: c.failures}.decide(&code, a, CheckResult{Result: Wrong})
		if code.Silent != c.want || code.Outcome != Declined {
			t.Errorf("%s: code declined with Silent = %v, want %v", c.name, code.Silent, c.want)
		}
		InviteState{CustomerID: c.customerID, Failures: c.failures}.decline(&invite, a)
		if invite.Silent != c.want {
			t.Errorf("%s: invite declined with Silent = %v, want %v", c.name, invite.Silent, c.want)
		}
	}
}
