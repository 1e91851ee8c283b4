package main

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
)

type chatCmd struct {
	As      string `placeholder:"ID" help:"Who types. Telegram: the numeric user id. SMS and WhatsApp: the phone number. Slack: the user id. Default: the account of Steve, the demo's customer."`
	Name    string `placeholder:"NAME" help:"The name that people on Telegram and WhatsApp show. Default: Steve, without --as."`
	Channel string `enum:"telegram,sms,whatsapp,slack" default:"telegram" placeholder:"CHANNEL" help:"telegram, sms, whatsapp or slack."`
	Demo    string `env:"HYDRAGATE_DEMO_URL" default:"http://127.0.0.1:8089" placeholder:"URL" help:"Where the demo listens to people; it says so when it starts."`
}

// Help is what chat --help says more.
func (chatCmd) Help() string {
	return `Each line of standard input is a message to the demo's bot, and takes the way of a real one, through the gateway's webhook. What the bot says is printed as it comes, also unasked, such as the notice that another account was linked. In Slack a line that starts with / is a slash command.

At a terminal it stays until Ctrl-D. From a pipe, each line waits for its answer:

  hydragate demo                                     (in another terminal)
  hydragate chat
  echo hello | hydragate chat --channel sms --as +12025550167`
}

const (
	chatPatience = 5 * time.Second        // for the first answer to a line
	chatQuiet    = 700 * time.Millisecond // after an answer, for another
)

func (c *chatCmd) Run(ctx context.Context, con console) error {
	channel := adapters.Channel(c.Channel)
	if c.As == "" {
		c.As, c.Name = steves(channel), cmp.Or(c.Name, "Steve")
	}
	client := &controlClient{url: strings.TrimSuffix(c.Demo, "/")}
	lobby, err := client.lobby(ctx)
	if err != nil {
		return err
	}
	so, err := client.talk(ctx, channel, c.As, 0, 0)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	talk := &chat{console: con, client: client, who: simulator.Saying{Channel: channel, As: c.As, Name: c.Name}, atTerminal: isTerminal(con.in)}
	if talk.atTerminal {
		fmt.Fprintf(con.err, "You are %s on %s and write to the bot at %s. Ctrl-D ends.\n", cmp.Or(c.Name, c.As), c.Channel, lobby.Addresses[channel])
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

// A chat is a conversation at the command line.
type chat struct {
	console
	client     *controlClient
	who        simulator.Saying
	atTerminal bool
}

// run types what is read and prints what is heard after the first so many lines of
// the conversation. It ends with the input, once no answer is waited for any more.
func (c *chat) run(ctx context.Context, after int) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	heard, deaf := make(chan string), make(chan error, 1)
	go func() { deaf <- c.listen(ctx, after, heard) }()
	lines, unread := make(chan string), make(chan error, 1)
	// Who waits at a terminal cannot be called back: this one ends with the process.
	go func() { unread <- c.read(ctx, lines) }()

	var quiet <-chan time.Time // fires when nothing more is to be waited for; nil: now
	answered, over := true, false
	for {
		typed := lines
		if quiet != nil && !c.atTerminal {
			typed = nil // a pipe waits for the answer before
		}
		select {
		case text := <-typed:
			if err := c.say(ctx, text); err != nil {
				return err
			}
			quiet, answered = time.After(chatPatience), false
		case text := <-heard:
			c.print(text)
			if answered = true; quiet != nil {
				quiet = time.After(chatQuiet)
			}
		case <-quiet:
			quiet = nil
			if !answered && !c.atTerminal {
				fmt.Fprintln(c.err, "(no answer)")
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

// maxChatLine is the longest line that is read.
const maxChatLine = 64 << 10

// read hands on the lines that are not empty.
func (c *chat) read(ctx context.Context, lines chan<- string) error {
	in := bufio.NewScanner(c.in)
	in.Buffer(nil, maxChatLine)
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
		return fmt.Errorf("a line is longer than %d bytes", maxChatLine)
	}
	return in.Err()
}

// listen hands on what is said to the person, until ctx ends or the demo does.
func (c *chat) listen(ctx context.Context, after int, heard chan<- string) error {
	for {
		talk, err := c.client.talk(ctx, c.who.Channel, c.who.As, after, listenTime)
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

func (c *chat) say(ctx context.Context, text string) error {
	s := c.who
	s.Text = text
	said, err := c.client.say(ctx, s)
	if err != nil {
		return err
	}
	if said.Answer != "" {
		c.print(said.Answer)
	}
	return nil
}

// print shows what the bot says; beside what a person types, it says who it is.
func (c *chat) print(text string) {
	if c.atTerminal {
		text = "bot: " + strings.ReplaceAll(text, "\n", "\n     ")
	}
	fmt.Fprintln(c.out, text)
}
