package demo

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
)

type ChatOptions struct {
	As      string `placeholder:"ID" help:"Who types. Telegram: the numeric user id. SMS and WhatsApp: the phone number. Slack: the user id. Default: the account of Steve, the demo's customer."`
	Name    string `placeholder:"NAME" help:"The name that people on Telegram and WhatsApp show. Default: Steve, without --as."`
	Channel string `enum:"telegram,sms,whatsapp,slack" default:"telegram" placeholder:"CHANNEL" help:"telegram, sms, whatsapp or slack."`
	Demo    string `env:"HYDRAGATE_DEMO_URL" default:"http://127.0.0.1:8089" placeholder:"URL" help:"Where the demo listens to people; it says so when it starts."`
}

// Help is what chat --help says more.
func (ChatOptions) Help() string {
	return `Each line of standard input is a message to the demo's bot, and takes the way of a real one, through the gateway's webhook. What the bot says is printed as it comes, also unasked, such as the notice that another account was linked. In Slack a line that starts with / is a slash command.

At a terminal it stays until Ctrl-D. From a pipe, each line waits for its answer:

  hydragate demo                                     (in another terminal)
  hydragate chat
  echo hello | hydragate chat --channel sms --as +12025550167`
}

const (
	replyTimeout = 5 * time.Second        // for the first answer to a line
	quietPeriod  = 700 * time.Millisecond // after an answer, for another
)

func (c *ChatOptions) Run(ctx context.Context, con app.Console) error {
	channel := adapters.Channel(c.Channel)
	if c.As == "" {
		c.As, c.Name = steveAccount(channel), cmp.Or(c.Name, "Steve")
	}
	client := &controlClient{url: strings.TrimSuffix(c.Demo, "/")}
	lobby, err := client.info(ctx)
	if err != nil {
		return err
	}
	so, err := client.transcript(ctx, channel, c.As, 0, 0)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	talk := &chatSession{Console: con, client: client, sender: simulator.SendRequest{Channel: channel, Sender: c.As, Name: c.Name}, interactive: isTerminal(con.In)}
	if talk.interactive {
		fmt.Fprintf(con.Err, "You are %s on %s and write to the bot at %s. Ctrl-D ends.\n", cmp.Or(c.Name, c.As), c.Channel, lobby.Addresses[channel])
	}
	err = talk.run(ctx, so.Next)
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil // Ctrl-C
	}
	return err
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// A chatSession is a conversation at the command line.
type chatSession struct {
	app.Console
	client      *controlClient
	sender      simulator.SendRequest
	interactive bool
}

// run types what is read and prints what is heard after the first so many lines of
// the conversation. It ends with the input, once no answer is waited for any more.
func (c *chatSession) run(ctx context.Context, after int) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	heard, deaf := make(chan string), make(chan error, 1)
	go func() { deaf <- c.receive(ctx, after, heard) }()
	lines, unread := make(chan string), make(chan error, 1)
	// Who waits at a terminal cannot be called back: this one ends with the process.
	go func() { unread <- c.readLines(ctx, lines) }()

	var quiet <-chan time.Time // fires when nothing more is to be waited for; nil: now
	answered, over := true, false
	for {
		typed := lines
		if quiet != nil && !c.interactive {
			typed = nil // a pipe waits for the answer before
		}
		select {
		case text := <-typed:
			if err := c.send(ctx, text); err != nil {
				return err
			}
			quiet, answered = time.After(replyTimeout), false
		case text := <-heard:
			c.print(text)
			if answered = true; quiet != nil {
				quiet = time.After(quietPeriod)
			}
		case <-quiet:
			quiet = nil
			if !answered && !c.interactive {
				fmt.Fprintln(c.Err, "(no answer)")
			}
			if over {
				return nil
			}
		case err := <-unread:
			if err != nil || quiet == nil {
				return err
			}
			over = true
		case err := <-deaf:
			return err
		}
	}
}

// maxInputLine is the longest line that is read.
const maxInputLine = 64 << 10

// readLines hands on the lines that are not empty.
func (c *chatSession) readLines(ctx context.Context, lines chan<- string) error {
	in := bufio.NewScanner(c.In)
	in.Buffer(nil, maxInputLine)
	for in.Scan() {
		text := strings.TrimSpace(in.Text())
		if text == "" {
			continue
		}
		select {
		case lines <- text:
		case <-ctx.Done():
			return nil
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("a line is longer than %d bytes", maxInputLine)
	}
	return in.Err()
}

// receive hands on what is said to the person, until ctx ends or the demo does.
func (c *chatSession) receive(ctx context.Context, after int, heard chan<- string) error {
	for {
		talk, err := c.client.transcript(ctx, c.sender.Channel, c.sender.Sender, after, pollTimeout)
		if err != nil {
			return err
		}
		after = talk.Next
		for _, l := range talk.Lines {
			if l.From == simulator.FromPerson {
				continue
			}
			select {
			case heard <- l.Text:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

func (c *chatSession) send(ctx context.Context, text string) error {
	s := c.sender
	s.Text = text
	said, err := c.client.send(ctx, s)
	if err != nil {
		return err
	}
	if said.Reply != "" {
		c.print(said.Reply)
	}
	return nil
}

// print shows what the bot says; beside what a person types, it says who it is.
func (c *chatSession) print(text string) {
	if c.interactive {
		text = "bot: " + strings.ReplaceAll(text, "\n", "\n     ")
	}
	fmt.Fprintln(c.Out, text)
}
