package operation

import (
	"strings"
	"testing"

	"hydragate/httpapi/fastapi"
)

// FuzzFormats checks that the canonical form of an accepted string is accepted unchanged, and that
// other strings cause a violation.
func FuzzFormats(f *testing.F) {
	checker := NewChecker(false)
	names := []string{
		fastapi.FormatUUID, fastapi.FormatTime, fastapi.FormatEmail, fastapi.FormatPhone, fastapi.FormatLocale,
		fastapi.FormatTimezone, fastapi.FormatAgentURL,
	}
	for i := range names {
		for _, s := range []string{
			"2030-01-31T12:00:00Z", "2030-01-31T12:00:00.123456789+14:00", "0000-01-01T00:00:00Z",
			"9999-12-31T23:59:59-23:59", "steve@example.com", "a@b", "\"a b\"@c", "Steve <steve@example.com>",
			"+61400111222", "en-AU", "x-private", "i-klingon",
			"Australia/Sydney", "../../etc/passwd", "Local", "UTC", "https://agent.example/x", "https://127.0.0.1/",
			"https://[::ffff:10.0.0.1]/", "http://agent.example", "javascript:alert(1)", "https://steve:x@agent.example",
			"https://agent.example\\@evil.example", "//evil", "", "\x00", "\xff",
		} {
			f.Add(byte(i), s)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, in string) {
		name := names[int(which)%len(names)]
		canonical, violation := checker.Formats[name](in)
		if violation != nil {
			if violation.Msg == "" || violation.Type == "" {
				t.Errorf("%s(%q) = violation %+v", name, in, violation)
			}
			return
		}
		again, violation := checker.Formats[name](canonical)
		if violation != nil || again != canonical {
			t.Errorf("%s(%q) = %q, but %s of that = %q, %+v", name, in, canonical, name, again, violation)
		}
		if strings.ContainsRune(canonical, 0) && name != fastapi.FormatAgentURL {
			t.Errorf("%s(%q) = %q, which contains NUL", name, in, canonical)
		}
	})
}

// TestCleanAgentURL checks the agent URLs of both modes. Link-local and metadata addresses and
// privileged ports are rejected in both.
func TestCleanAgentURL(t *testing.T) {
	for agentURL, want := range map[string]struct{ public, private bool }{
		"https://agent.example.com/events":         {true, true},
		"https://agent.example.com:8443/events":    {true, true},
		"https://agent.example.com:443/events":     {true, true},
		"https://agent.example.com:80/events":      {true, true},
		"https://agent.example.com:/events":        {true, true},
		"http://127.0.0.1:9000/events":             {false, true},
		"http://[::1]/events":                      {false, true},
		"http://agent:9000/events":                 {false, true},
		"http://10.0.0.5:1024/events":              {false, true},
		"https://agent.example.com:22/events":      {false, false},
		"https://agent.example.com:1023/events":    {false, false},
		"https://agent.example.com:0/events":       {false, false},
		"https://agent.example.com:65536/events":   {false, false},
		"http://127.0.0.1:22/events":               {false, false},
		"http://169.254.169.254/latest/meta-data/": {false, false},
		"https://169.254.169.254/":                 {false, false},
		"https://[fd00:ec2::254]/":                 {false, false},
		"https://[::ffff:169.254.169.254]/":        {false, false},
		"https://[::ffff:a9fe:a9fe]/":              {false, false},
		"https://[64:ff9b::a9fe:a9fe]/":            {false, false},
		"https://[fe80::1%25eth0]/":                {false, false},
		"https://168.63.129.16/":                   {false, false},
	} {
		for allowPrivate, want := range map[bool]bool{false: want.public, true: want.private} {
			got, violation := cleanAgentURL(agentURL, allowPrivate)
			if ok := violation == nil; ok != want || ok && got != agentURL {
				t.Errorf("cleanAgentURL(%q, %v) = %q, %+v, want accepted = %v", agentURL, allowPrivate, got, violation, want)
			}
		}
	}
}
