package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
)

// ChatOptions are the options of the command chat, which sends messages to a running demo.
type ChatOptions struct {
	As      string `placeholder:"ID" help:"Account to write from. Telegram: numeric user id. SMS and WhatsApp: phone number. Slack: user id. Default: the account of Steve, the customer of the demo."`
	Name    string `placeholder:"NAME" help:"Name of the person on Telegram and WhatsApp. Default: Steve without --as, otherwise none."`
	Channel string `enum:"telegram,sms,whatsapp,slack" default:"telegram" placeholder:"CHANNEL" help:"telegram, sms, whatsapp or slack."`
	Demo    string `env:"HYDRAGATE_DEMO_URL" default:"http://127.0.0.1:8089" placeholder:"URL" help:"Address of the running demo, if it is not the default."`
}

// Help implements kong.HelpProvider.
func (*ChatOptions) Help() string {
	return `Start hydragate demo in another terminal first. Each line that you type is sent to the bot through
the webhook of the gateway. Replies are printed when they arrive. In Slack, a line that starts with / is a
slash command.

Ctrl-D or Ctrl-C ends the chat. From a pipe, each line waits for its reply:
  echo hello | hydragate chat --channel sms --as +12025550167`
}

const (
	replyTimeout = 5 * time.Second        // for the first reply to a line
	quietPeriod  = 700 * time.Millisecond // after a reply, for another one
)

// Run chats until the input ends, ctx ends or the demo stops.
func (o *ChatOptions) Run(ctx context.Context, con app.Console) error {
	channel := adapters.Channel(o.Channel)
	if o.As == "" {
		o.As, o.Name = steveAccount(channel), cmp.Or(o.Name, "Steve")
	}
	client := &controlClient{url: strings.TrimSuffix(o.Demo, "/")}
	info, err := client.info(ctx)
	if err != nil {
		return err
	}
	earlier, err := client.transcript(ctx, channel, o.As, 0, 0)
	if err != nil {
		return err
	}
	name := cmp.Or(o.Name, o.As)
	interactive := app.IsTerminal(con.In)
	if interactive {
		fmt.Fprintf(con.Err, "You are %s on %s and write to %s.\nPress Ctrl-D to leave.\n\n",
			name, adapters.TraitsOf(channel).DisplayName, info.Addresses[channel])
	}
	lines, err := openLineIO(con, name+"> ")
	if err != nil {
		return err
	}
	defer lines.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &chatSession{
		client: client, lines: lines, interactive: interactive,
		sender: simulator.SendRequest{Channel: channel, Sender: o.As, Name: o.Name},
	}
	err = s.run(ctx, earlier.Next)
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil // SIGINT or SIGTERM
	}
	return err
}

// A chatSession is a conversation on the command line.
type chatSession struct {
	client      *controlClient
	lines       lineIO
	sender      simulator.SendRequest
	interactive bool // a person types: do not wait for replies before sending the next line
}

// run sends the lines that are read and prints the replies after the first ones of the
// conversation. It returns when the input has ended; if the input is not a terminal, it waits for
// the reply to the last line.
func (s *chatSession) run(ctx context.Context, after int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	replies, receiveErr := make(chan string), make(chan error, 1)
	go func() { receiveErr <- s.receive(ctx, after, replies) }()
	input, inputErr := make(chan string), make(chan error, 1)
	// Reading from a terminal cannot be interrupted: this goroutine may end with the process only.
	go func() { inputErr <- s.readInput(ctx, input) }()

	var timeout <-chan time.Time // fires when no further reply is expected; nil if none is
	replied, ended := true, false
	for {
		next := input
		if timeout != nil && !s.interactive {
			next = nil // wait for the reply to the line before
		}
		select {
		case text := <-next:
			if err := s.send(ctx, text); err != nil {
				return err
			}
			timeout, replied = time.After(replyTimeout), false
		case text := <-replies:
			s.print(text)
			if replied = true; timeout != nil {
				timeout = time.After(quietPeriod)
			}
		case <-timeout:
			timeout = nil
			if !replied && !s.interactive {
				s.lines.warn("(no reply)")
			}
			if ended {
				return nil
			}
		case err := <-inputErr:
			if err != nil || timeout == nil || s.interactive {
				return err
			}
			ended = true
		case err := <-receiveErr:
			return err
		}
	}
}

// readInput sends the lines of the input to lines, except empty ones. It returns nil at the end
// of the input.
func (s *chatSession) readInput(ctx context.Context, lines chan<- string) error {
	for {
		text, ok, err := s.lines.read()
		if err != nil || !ok {
			return err
		}
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		select {
		case lines <- text:
		case <-ctx.Done():
			return nil
		}
	}
}

// receive sends what the bot and the provider wrote to replies, until ctx ends or the demo stops.
func (s *chatSession) receive(ctx context.Context, after int, replies chan<- string) error {
	for {
		page, err := s.client.transcript(ctx, s.sender.Channel, s.sender.Sender, after, pollTimeout)
		if err != nil {
			return err
		}
		after = page.Next
		for _, l := range page.Lines {
			if l.From == simulator.FromPerson {
				continue
			}
			select {
			case replies <- l.Text:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// send sends a message. It prints the immediate response of a slash command.
func (s *chatSession) send(ctx context.Context, text string) error {
	req := s.sender
	req.Text = text
	resp, err := s.client.send(ctx, req)
	if err != nil {
		return err
	}
	if resp.Reply != "" {
		s.print(resp.Reply)
	}
	return nil
}

// print prints a reply. If a person reads it, each reply starts with "bot: ".
func (s *chatSession) print(text string) {
	if s.interactive {
		const prefix = "bot: "
		width := s.lines.width() - len(prefix) - 1
		text = prefix + strings.Join(wrapText(text, width), "\n"+strings.Repeat(" ", len(prefix)))
	}
	s.lines.print(text)
}
