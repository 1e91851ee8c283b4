package delivery

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// joinable returns an event that can be joined with others of the same key. A key that begins with
// "album" is that of an album.
func joinable(id, key string, delay time.Duration) gateway.Event {
	e := newEvent("", id, "text "+id)
	e.JoinKey, e.Delay = key, delay
	if strings.HasPrefix(key, "album") {
		e.Message.GroupKey = key
	}
	return e
}

// TestNextEvent checks which messages are joined, and how long an event waits for more.
func TestNextEvent(t *testing.T) {
	const second, past = time.Second, -time.Second
	formed := func(e gateway.Event, event string) gateway.Event {
		e.EventID = event
		return e
	}
	long := func(e gateway.Event) gateway.Event {
		e.Message.Text = strings.Repeat("a", adapters.MaxInboundText*2/3)
		return e
	}
	old := func(e gateway.Event) gateway.Event {
		e.Age = maxJoinWait
		return e
	}
	unreadable := func(e gateway.Event) gateway.Event {
		e.Err = io.ErrUnexpectedEOF
		return e
	}
	var many []gateway.Event
	for i := range gateway.FetchLimit {
		many = append(many, joinable(fmt.Sprint(i), "burst", second))
	}
	for _, tt := range []struct {
		name    string
		pending []gateway.Event
		event   string // IDs of its deliveries
		rest    string
		wait    time.Duration
	}{
		{"ordinary", []gateway.Event{joinable("1", "", past), joinable("2", "", past)}, "[1]", "[2]", past},
		{
			"ordinary before burst",
			[]gateway.Event{joinable("1", "", past), joinable("2", "burst", second)},
			"[1]", "[2]",
			past,
		},
		{"burst waits", []gateway.Event{joinable("1", "burst", second)}, "[1]", "[]", second},
		{
			"burst waits for the newest",
			[]gateway.Event{joinable("1", "burst", past), joinable("2", "burst", second)},
			"[1 2]", "[]", second,
		},
		{
			"burst waits no longer",
			[]gateway.Event{old(joinable("1", "burst", past)), joinable("2", "burst", second)},
			"[1 2]", "[]", 0,
		},
		{"full burst", many, fmt.Sprint(deliveryIDsOf(many)), "[]", 0},
		{"burst before ordinary", []gateway.Event{joinable("1", "burst", second), joinable("2", "", past)}, "[1]", "[2]", 0},
		{"burst keeps order", []gateway.Event{
			joinable("1", "burst", second), joinable("2", "", past), joinable("3", "burst", second),
		}, "[1]", "[2 3]", 0},
		{
			"another sender",
			[]gateway.Event{joinable("1", "burst", second), joinable("2", "burst 2", second)},
			"[1]", "[2]",
			0,
		},
		{"too long", []gateway.Event{
			long(joinable("1", "burst", second)), long(joinable("2", "burst", second)), joinable("3", "burst", second),
		}, "[1]", "[2 3]", 0},
		{
			"unreadable",
			[]gateway.Event{joinable("1", "burst", second), unreadable(joinable("2", "burst", second))},
			"[1]", "[2]", 0,
		},
		{
			"unreadable first",
			[]gateway.Event{unreadable(joinable("1", "burst", past)), joinable("2", "burst", second)},
			"[1]", "[2]", past,
		},
		{"album waits", []gateway.Event{joinable("1", "album", past), joinable("2", "album", second)}, "[1 2]", "[]", second},
		{"album around a message", []gateway.Event{
			joinable("1", "album", past), joinable("2", "", past), joinable("3", "album", second),
		}, "[1 3]", "[2]", second},
		{"two albums", []gateway.Event{
			joinable("1", "album 1", past), joinable("2", "album 2", past), joinable("3", "album 1", past),
		}, "[1 3]", "[2]", past},
		{"formed", []gateway.Event{
			formed(joinable("1", "album", past), "1"), joinable("2", "album", second),
			formed(joinable("3", "album", second), "1"),
		}, "[1 3]", "[2]", past},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, rest := nextEvent(tt.pending)
			event, others := fmt.Sprint(deliveryIDs(e)), fmt.Sprint(deliveryIDsOf(rest))
			if event != tt.event || others != tt.rest || e.Delay != tt.wait {
				t.Errorf("nextEvent = %s, rest %s, wait %s, want %s, %s, %s", event, others, e.Delay, tt.event, tt.rest, tt.wait)
			}
		})
	}
}

func deliveryIDsOf(es []gateway.Event) []string {
	ids := []string{}
	for _, e := range es {
		ids = append(ids, e.ID)
	}
	return ids
}

// TestDocument_Joined checks the fields that hold for all messages of an event.
func TestDocument_Joined(t *testing.T) {
	first, second, third := joinable("1", "album", 0), joinable("2", "album", 0), joinable("3", "album", 0)
	first.Message.Media = []adapters.Attachment{{Kind: "image"}}
	second.Message.Text, second.Message.Media = "", []adapters.Attachment{{Kind: "video"}}
	second.Message.UnprovenReason = adapters.UnprovenForwarded
	third.Message.UnprovenReason = adapters.UnprovenLog
	first.Joined = []gateway.Event{second, third}
	got := document(first, nil, time.Now()).(messageReceived).Data
	if got.Text != "text 1\ntext 3" || len(got.Attachments) != 2 || got.MessageID != "m1" {
		t.Errorf("text = %q, %d attachments, message_id = %q, want those of all messages and the first ID",
			got.Text, len(got.Attachments), got.MessageID)
	}
	if !got.Forwarded || got.WrittenBy != adapters.AuthorOther || got.Edited {
		t.Errorf("forwarded = %v, written_by = %q, edited = %v, want true, other and false",
			got.Forwarded, got.WrittenBy, got.Edited)
	}
	var authors []adapters.Author
	for _, m := range got.Messages {
		authors = append(authors, m.WrittenBy)
	}
	if want := []adapters.Author{"sender", "other", "unknown"}; !slices.Equal(authors, want) {
		t.Errorf("authors of the messages = %q, want %q", authors, want)
	}
	alone, single := joinable("1", "album", 0), joinable("1", "burst", 0)
	if got := document(alone, nil, time.Now()).(messageReceived).Data; len(got.Messages) != 1 {
		t.Errorf("messages of an album with one picture = %d, want 1", len(got.Messages))
	}
	if got := document(single, nil, time.Now()).(messageReceived).Data; got.Messages != nil {
		t.Errorf("messages of a single message = %v, want null", got.Messages)
	}
}

// TestDeliverer_FormsEvent checks that the messages of an event are stored before the first attempt, so
// that every attempt delivers the same ones, and that all of them get the result.
func TestDeliverer_FormsEvent(t *testing.T) {
	var s *fakeStore
	status := http.StatusServiceUnavailable
	var bodies []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event struct{ Data struct{ Text string } }
		_ = json.NewDecoder(r.Body).Decode(&event)
		formed := len(s.commits) > 0 && slices.Equal(s.commits[0].FormedEvent, []string{"1", "2"})
		bodies = append(bodies, fmt.Sprint(event.Data.Text, formed))
		w.WriteHeader(status)
	}))
	defer srv.Close()
	pending := []gateway.Event{joinable("1", "burst", 0), joinable("2", "burst", 0)}
	for i := range pending {
		pending[i].AgentURL = srv.URL
	}
	s = &fakeStore{events: slices.Clone(pending)}
	if err := newDeliverer(s).Run(t.Context(), gateway.Lease{}, testSlice); err != nil {
		t.Fatal(err)
	}
	if r := s.results(); len(r) != 1 || r[0].ID != "1" || r[0].Status != gateway.Pending {
		t.Errorf("results of a failed attempt = %+v, want the first delivery pending", r)
	}
	status = http.StatusOK
	for i := range pending { // as stored, and joined by another message since
		pending[i].EventID, pending[i].Attempts = "1", 1
	}
	s.events = slices.Concat(pending, []gateway.Event{joinable("3", "burst", time.Second)})
	s.events[2].AgentURL = srv.URL
	if err := newDeliverer(s).Run(t.Context(), gateway.Lease{}, testSlice); err != nil {
		t.Fatal(err)
	}
	if want := []string{"text 1\ntext 2true", "text 1\ntext 2true"}; !slices.Equal(bodies, want) {
		t.Errorf("attempts = %q, want %q", bodies, want)
	}
	r := s.results()[1:]
	if len(r) != 2 || r[0].ID+r[1].ID != "12" || r[0].Status != gateway.Delivered || r[1].Status != gateway.Delivered {
		t.Errorf("results = %+v, want both deliveries delivered, and the new message not", r)
	}
}
