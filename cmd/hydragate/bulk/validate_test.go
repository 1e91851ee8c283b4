package bulk

import (
	"testing"
	"time"
)

// TestValidator_DefaultRegion tests that numbers without a country code are those of the default region of the
// instance, and are rejected without one.
func TestValidator_DefaultRegion(t *testing.T) {
	v := newValidator(time.Now())
	v.regions = map[string]string{"": "US", "Sydney": "AU", "Berlin": ""}
	for _, c := range []struct{ instance, number, want string }{
		{"", "(917) 555-0100", "+19175550100"},
		{"Sydney", "0400 111 222", "+61400111222"},
		{"Sydney", "+19175550100", "+19175550100"},
		{"Berlin", "0400 111 222", ""},
		{"Unknown", "0400 111 222", ""},
	} {
		r, err := v.validate(customerLine{
			FirstName: "Steve", FKID: "1", PhoneNumber: "9175550100",
			Identities: []identityFields{{Channel: "sms", ExternalID: c.number, Instance: c.instance}},
		})
		if (err == nil) != (c.want != "") || err == nil && r.Identities[0].ExternalID != c.want ||
			r.PhoneNumber != "+19175550100" {
			t.Errorf("validate(%q in %q) = %+v, %v, want %s", c.number, c.instance, r, err, c.want)
		}
	}
}
