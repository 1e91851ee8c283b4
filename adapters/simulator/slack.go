package simulator

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Slack is a pretend Slack. It serves the Web API at /api/<method> and the
// addresses for answers at /response/<id>, and is the client that posts events,
// slash commands and interactions to apps, signed and retried as Slack does. Apps with
// an app-level token get them over Socket Mode, at /link/.
// Faults hit calls by method name, answers by the name "response_url", connections
// about to be opened by "link", and envelopes by "socket": Hang stalls the connection,
// Body goes into it in place of the envelope, and after Cut it is cut.
//
// A chat of its Transcript is a room's id or, for what one person alone sees,
// SlackUser.Chat. Make one with NewSlack and serve it where you like; it is safe
// for concurrent use.
type Slack struct {
	Transcript
	Faults

	// Client posts to the apps. It may be replaced before the first post; it must
	// not follow redirects.
	Client *http.Client

	// Timeout is how long an app may take to answer: 3 s, as with the original.
	Timeout time.Duration

	// Scale stretches the waits before an event is posted again: 1 is the original's
	// pace, which is at once, after a minute, and after five. It is set before the
	// first event.
	RetryScale float64

	// Now is the clock of the pretend server.
	Now func() time.Time

	mu           sync.Mutex
	baseURL      string
	apps         map[string]SlackApp  // by AppID
	users        map[string]SlackUser // by chat
	directs      map[string]slackDirect
	rooms        map[string]slackRoom
	posts        []slackPost
	responseURLs map[string]*slackResponseURL
	sockets      slackSockets
	lastID       int64 // numbers ids and timestamps
}

// An SlackApp is a Slack app, installed with a bot user in one workspace. The URLs are
// where it wants its requests; an empty one gets none.
type SlackApp struct {
	AppID         string
	TeamID        string
	TeamName      string
	BotUserID     string
	BotID         string
	Token         string
	SigningSecret string

	EventsURL        string
	CommandsURL      string
	InteractivityURL string

	// AppToken is the app-level token. With one, Socket Mode is on: everything goes
	// over connections, and nothing to the URLs.
	AppToken string
	// SocketModeOff says that Socket Mode was switched off in the app's settings.
	SocketModeOff bool
}

// A SlackUser is a person with an account in a workspace. In a channel that two
// organisations share, it may be another workspace than the app's.
type SlackUser struct {
	Team string
	ID   string
	Name string
}

// Chat is the name of the person's direct conversation in the transcript, and of
// the person as a sender: the team and the user id.
func (u SlackUser) Chat() string { return u.Team + ":" + u.ID }

// A slackDirect is the conversation of one person with one app.
type slackDirect struct {
	app  string
	user SlackUser
}

type slackRoom struct{ archived bool }

// A slackPost is a message as history keeps it.
type slackPost struct {
	channel, ts, thread, user, botID, text, metadata string
}

// slackResponseURL is the state of one response_url.
type slackResponseURL struct {
	user      SlackUser
	channel   string
	expires   time.Time
	remaining int
}

// NewSlack gives a server that knows no app and nobody.
func NewSlack() *Slack {
	return &Slack{
		Client:       &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		Timeout:      3 * time.Second,
		RetryScale:   1,
		Now:          time.Now,
		apps:         map[string]SlackApp{},
		users:        map[string]SlackUser{},
		directs:      map[string]slackDirect{},
		rooms:        map[string]slackRoom{},
		responseURLs: map[string]*slackResponseURL{},
		sockets:      slackSockets{tickets: map[string]slackTicket{}, pending: map[string]chan []byte{}, changed: make(chan struct{})},
	}
}

// SetURL tells the server its own origin, which the addresses for answers start
// with.
func (s *Slack) SetURL(base string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.baseURL = strings.TrimSuffix(base, "/")
}

// APIURL is where the Web API is, as an app is told: it ends in /api/.
func (s *Slack) APIURL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.baseURL + "/api/"
}

// AddApp installs an app, or replaces the one with the same AppID.
func (s *Slack) AddApp(app SlackApp) {
	app.BotID = cmp.Or(app.BotID, "B"+strings.TrimPrefix(app.AppID, "A"))
	app.TeamName = cmp.Or(app.TeamName, app.TeamID)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[app.AppID] = app
}

// AddUser makes a person known before they say anything.
func (s *Slack) AddUser(u SlackUser) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.Chat()] = u
}

// AddRoom makes a channel that the apps are members of; in an archived one nobody
// may post.
func (s *Slack) AddRoom(channel string, archived bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rooms[channel] = slackRoom{archived: archived}
}

// DM is the id of the direct conversation of a person with an app.
func (s *Slack) DM(appID string, u SlackUser) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.openDirect(appID, u)
}

// openDirect gives the direct conversation of u with an app. The caller holds s.mu.
func (s *Slack) openDirect(appID string, u SlackUser) string {
	sum := sha256.Sum256([]byte(appID + " " + u.Chat()))
	channel := "D" + strings.ToUpper(hex.EncodeToString(sum[:5]))
	s.users[u.Chat()] = u
	s.directs[channel] = slackDirect{app: appID, user: u}
	return channel
}

// transcriptChat is the name in the transcript of the conversation channel. The caller holds
// s.mu.
func (s *Slack) transcriptChat(channel string) string {
	if d, ok := s.directs[channel]; ok {
		return d.user.Chat()
	}
	return channel
}

// nextTimestamp gives the name of the next message. The caller holds s.mu.
func (s *Slack) nextTimestamp() string {
	s.lastID++
	return fmt.Sprintf("%d.%06d", s.Now().Unix(), s.lastID%1_000_000)
}

// nextID gives the next id with a prefix. The caller holds s.mu.
func (s *Slack) nextID(prefix string) string {
	s.lastID++
	return fmt.Sprintf("%s%010d", prefix, s.lastID)
}

var errUnknownSlackApp = errors.New("simulator: no Slack app with this id")

func (s *Slack) findApp(appID string) (SlackApp, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	app, ok := s.apps[appID]
	if !ok {
		return SlackApp{}, errUnknownSlackApp
	}
	return app, nil
}
