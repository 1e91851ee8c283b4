//go:build unix

// Package cases sends recorded messages of the channels to a gateway and compares what it delivers
// and sends. A case is a JSON file: what a person sends in the shape of the provider, and the events,
// the calls to the provider and the sender that must result.
package cases

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A Case is a row of the table of channels. In all its strings and numbers, the constants of Persona
// are replaced with values that no other case has.
type Case struct {
	Channel string `json:"-"` // of the folder
	Name    string `json:"-"` // of the file

	// About says what arrives, and where it is documented or was reported.
	About string `json:"about"`
	// Sender is "unknown" by default, "linked", "verified" or "owner".
	Sender string `json:"sender"`
	// Account is the external ID of the sender if it is not that of the persona.
	Account string `json:"account"`
	// Answer is what the application answers to each event. It is {} by default.
	Answer json.RawMessage `json:"answer"`
	// Faults replace responses of the provider.
	Faults []Fault `json:"faults"`
	// Rounds are sent one after the other, each when the gateway has no work left. The payloads of a
	// round are sent without waiting in between.
	Rounds [][]Payload `json:"rounds"`
	Want   Want        `json:"want"`
}

// A Payload is one webhook request. One field is set.
type Payload struct {
	Update      json.RawMessage    `json:"update"`      // Telegram, update_id is added
	Form        map[string]*string `json:"form"`        // SMS or WhatsApp; null removes a parameter
	Status      map[string]*string `json:"status"`      // status callback of SMS or WhatsApp
	Event       json.RawMessage    `json:"event"`       // Slack, the inner event
	Envelope    json.RawMessage    `json:"envelope"`    // Slack, the whole body of an event
	Command     map[string]*string `json:"command"`     // Slack
	Interaction json.RawMessage    `json:"interaction"` // Slack, the payload
	// HTTPStatus is the expected status if it is not 200.
	HTTPStatus int `json:"http_status"`
}

// A Fault is the response to the next call of a method that mentions the sender.
type Fault struct {
	Call   string          `json:"call"`   // as in Call
	Status int             `json:"status"` // default 200
	Body   json.RawMessage `json:"body"`
	Times  int             `json:"times"` // default 1
}

// Want is the expected result. A field that is absent is not checked. An expected object may leave out
// fields, and a string that begins with "~" is a regular expression.
type Want struct {
	// Events are the data objects of all message events that the application received, in order.
	Events []any `json:"events"`
	// Conversations is the number of conversations of the events. Zero is not checked.
	Conversations int `json:"conversations"`
	// Notices are the types of all other events about the identity, in order.
	Notices []any `json:"notices"`
	// Calls are calls to the provider that mention the sender, in this order, possibly with others
	// between them. "call" is the method.
	Calls []map[string]any `json:"calls"`
	// NoCalls are methods that must not be called.
	NoCalls []string `json:"no_calls"`
	// Replies are the texts of all messages that were sent, in order.
	Replies []any `json:"replies"`
	// Identity is the identity of a linked sender at the end.
	Identity map[string]any `json:"identity"`
}

// Load reads all cases below a folder with a folder for each channel.
func Load(t *testing.T, dir string) (all []*Case) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := &Case{Channel: filepath.Base(filepath.Dir(file)), Name: strings.TrimSuffix(filepath.Base(file), ".json")}
		body = newPersona(c.Channel, len(all)+1).replace(body)
		d := json.NewDecoder(strings.NewReader(string(body)))
		d.DisallowUnknownFields()
		if err := d.Decode(c); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if c.About == "" || len(c.Rounds) == 0 || reflect.DeepEqual(c.Want, Want{}) {
			t.Fatalf("%s: about, rounds and want are required", file)
		}
		all = append(all, c)
	}
	return all
}

// match returns what differs between got and want, or "".
func match(path string, got, want any) string {
	switch want := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s = %s, want an object", path, encode(got))
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			if diff := match(path+"."+key, g[key], want[key]); diff != "" {
				return diff
			}
		}
		return ""
	case []any:
		g, _ := got.([]any)
		if len(g) != len(want) {
			return fmt.Sprintf("%s = %s, want %d elements", path, encode(got), len(want))
		}
		for i := range want {
			if diff := match(fmt.Sprintf("%s[%d]", path, i), g[i], want[i]); diff != "" {
				return diff
			}
		}
		return ""
	case string:
		if pattern, ok := strings.CutPrefix(want, "~"); ok {
			if s, ok := got.(string); ok && regexp.MustCompile(`(?s)^(?:`+pattern+`)$`).MatchString(s) {
				return ""
			}
			return fmt.Sprintf("%s = %s, want a match of %s", path, encode(got), pattern)
		}
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Sprintf("%s = %s, want %s", path, encode(got), encode(want))
	}
	return ""
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
