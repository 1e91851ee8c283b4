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

// Slack simulates Slack. It serves the Web API at /api/<method>, response URLs at /response/<id> and
// Socket Mode at /link/. It posts events, slash commands and interactions to apps, signed and
// retried as Slack does. Apps with an app-level token receive them over Socket Mode.
//
// The names for Arm are the method names of the Web API, "response_url", "link" for opening a
// connection, and "socket" for sending an envelope. Of a "socket" fault, Hang stalls the connection,
// Body is sent in place of the envelope, and Cut closes the connection after it.
//
// A chat in its Transcript is the ID of a channel or, for messages that one person sees,
// SlackUser.Chat. A Slack is made with NewSlack and is an http.Handler. It is safe for concurrent
// use.
type Slack struct {
	Transcript
	Faults

	// Client posts to the apps. It may be replaced before the first request. It must not follow
	// redirects.
	Client *http.Client

	// Timeout is the time for an app to respond. Slack's is 3 s.
	Timeout time.Duration

	// RetryScale scales the delays before an event is posted again. 1 is Slack's pace: immediately,
	// after one minute and after five more. It must be set before the first event.
	RetryScale float64

	// Now is the clock of the server.
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
	lastID       int64 // makes IDs and timestamps unique
}

// A SlackApp is a Slack app that is installed with a bot user in one workspace. A URL may be empty,
// and then receives no requests.
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

	// AppToken is the app-level token. If it is set, the app uses Socket Mode and its URLs receive
	// nothing.
	AppToken string
	// Scopes are those of the token. If there are none, Slack does not report them.
	Scopes []string
	// TokenError is the error code of all calls with the token, such as "token_revoked".
	TokenError string

	// SocketModeOff means that Socket Mode was disabled in the app's settings.
	SocketModeOff bool
	// OtherSockets is the number of connections that other programs have opened for the app.
	OtherSockets int
}

// A SlackUser is a person with an account in a workspace. In a shared channel, it may be another
// workspace than that of the app.
type SlackUser struct {
	Team string
	ID   string
	Name string
}

// Chat returns team and user ID, which identify the person's direct conversation and the person as a
// sender in the transcript.
func (u SlackUser) Chat() string { return u.Team + ":" + u.ID }

// A slackDirect is the conversation of one person with one app.
type slackDirect struct {
	app  string
	user SlackUser
}

type slackRoom struct{ archived bool }

// A slackPost is a message in the history of a channel.
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

// NewSlack returns a server without apps and users.
func NewSlack() *Slack {
	return &Slack{
		Client: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Timeout:      3 * time.Second,
		RetryScale:   1,
		Now:          time.Now,
		apps:         map[string]SlackApp{},
		users:        map[string]SlackUser{},
		directs:      map[string]slackDirect{},
		rooms:        map[string]slackRoom{},
		responseURLs: map[string]*slackResponseURL{},
		sockets: slackSockets{
			tickets: map[string]slackTicket{}, pending: map[string]chan []byte{}, changed: make(chan struct{}),
		},
	}
}

// SetURL sets the origin of the server, with which response URLs begin.
func (s *Slack) SetURL(base string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.baseURL = strings.TrimSuffix(base, "/")
}

// APIURL returns the base URL of the Web API. It ends in /api/.
func (s *Slack) APIURL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.baseURL + "/api/"
}

// AddApp installs an app or replaces the one with the same AppID.
func (s *Slack) AddApp(app SlackApp) {
	app.BotID = cmp.Or(app.BotID, "B"+strings.TrimPrefix(app.AppID, "A"))
	app.TeamName = cmp.Or(app.TeamName, app.TeamID)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[app.AppID] = app
}

// ChangeApp changes an installed app. It does nothing if there is no such app.
func (s *Slack) ChangeApp(appID string, change func(app *SlackApp)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if app, ok := s.apps[appID]; ok {
		change(&app)
		s.apps[appID] = app
	}
}

// AddUser adds a person who has not sent a message yet.
func (s *Slack) AddUser(u SlackUser) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.Chat()] = u
}

// AddRoom adds a channel of which the apps are members. Posting to an archived channel fails.
func (s *Slack) AddRoom(channel string, archived bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rooms[channel] = slackRoom{archived: archived}
}

// DM returns the ID of the direct conversation of a person with an app.
func (s *Slack) DM(appID string, u SlackUser) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.openDirect(appID, u)
}

// openDirect returns the ID of the direct conversation of u with an app. The caller must hold s.mu.
func (s *Slack) openDirect(appID string, u SlackUser) string {
	sum := sha256.Sum256([]byte(appID + " " + u.Chat()))
	channel := "D" + strings.ToUpper(hex.EncodeToString(sum[:5]))
	s.users[u.Chat()] = u
	s.directs[channel] = slackDirect{app: appID, user: u}
	return channel
}

// transcriptChat returns the chat of a channel in the transcript. The caller must hold s.mu.
func (s *Slack) transcriptChat(channel string) string {
	if d, ok := s.directs[channel]; ok {
		return d.user.Chat()
	}
	return channel
}

// nextTimestamp returns a new message timestamp, which identifies a message. The caller must hold
// s.mu.
func (s *Slack) nextTimestamp() string {
	s.lastID++
	return fmt.Sprintf("%d.%06d", s.Now().Unix(), s.lastID%1_000_000)
}

// nextID returns a new ID with a prefix. The caller must hold s.mu.
func (s *Slack) nextID(prefix string) string {
	s.lastID++
	return fmt.Sprintf("%s%010d", prefix, s.lastID)
}

var errUnknownSlackApp = errors.New("simulator: unknown Slack app")

func (s *Slack) findApp(appID string) (SlackApp, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	app, ok := s.apps[appID]
	if !ok {
		return SlackApp{}, errUnknownSlackApp
	}
	return app, nil
}
