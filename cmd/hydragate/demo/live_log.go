package demo

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
)

// A liveLog prints what happens in a running demo: a line for each message, event and claim code.
type liveLog struct {
	mu  sync.Mutex
	out *printer
}

const (
	sourceColumn = 10 // width of the column after the time
	liveWidth    = 59 // width of the text, so that a line fits into 80 columns
)

// runLiveLog prints what happens until ctx ends. On a terminal, it also issues a claim code for
// Steve each time Enter is pressed.
func (d *Environment) runLiveLog(ctx context.Context, steve identityResponse) {
	l := &liveLog{out: newPrinter(d.Out)}
	var wg sync.WaitGroup
	for _, t := range []struct {
		channel    adapters.Channel
		transcript *simulator.Transcript
	}{
		{adapters.Telegram, &d.Providers.Telegram.Transcript},
		{adapters.SMS, &d.Providers.Twilio.Transcript},
		{adapters.Slack, &d.Providers.Slack.Transcript},
	} {
		wg.Go(func() { l.followTranscript(ctx, t.channel, t.transcript) })
	}
	wg.Go(func() { l.followEvents(ctx, d.App) })
	if app.IsTerminal(d.In) {
		// Reading from a terminal cannot be interrupted: this goroutine ends with the process.
		go l.issueCodes(ctx, d, steve)
	}
	wg.Wait()
}

// print prints a line, wrapped, with the time and its source.
func (l *liveLog) print(source, text, style string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	prefix := fmt.Sprintf("%s  %-*s", time.Now().Format("15:04:05"), sourceColumn, source)
	for _, line := range wrapText(text, liveWidth) {
		if style != "" {
			line = l.out.style(style, line)
		}
		fmt.Fprintf(l.out.out, "%s %s\n", prefix, line)
		prefix = strings.Repeat(" ", len(prefix))
	}
}

// followTranscript prints the messages of a provider.
func (l *liveLog) followTranscript(ctx context.Context, channel adapters.Channel, t *simulator.Transcript) {
	for n := 0; ; {
		lines := t.WaitLines(ctx, n)
		if len(lines) == 0 {
			return
		}
		n += len(lines)
		for _, line := range lines {
			l.printMessage(channel, line)
		}
	}
}

func (l *liveLog) printMessage(channel adapters.Channel, line simulator.Line) {
	person, isWhatsApp := strings.CutPrefix(line.Chat, "whatsapp:")
	if isWhatsApp {
		channel = adapters.WhatsApp
	}
	person = personName(channel, person)
	switch line.Sender {
	case line.Chat:
		l.print(adapters.TraitsOf(channel).DisplayName, person+": "+line.Text, styleBold)
	case "":
		l.print(adapters.TraitsOf(channel).DisplayName, "bot to "+person+": "+line.Text, "")
	default:
		l.print(adapters.TraitsOf(channel).DisplayName, "Twilio to "+person+": "+line.Text, "")
	}
}

// personName returns the name of the owner of an account, if it is known, or the account.
func personName(channel adapters.Channel, account string) string {
	if account == steveAccount(channel) {
		return "Steve"
	}
	return account
}

// followEvents prints the events that the gateway delivers to the sample application.
func (l *liveLog) followEvents(ctx context.Context, a *SampleApp) {
	for n := 0; ; {
		events := a.waitEvents(ctx, n)
		if len(events) == 0 {
			return
		}
		n += len(events)
		for _, e := range events {
			sender := e.Data.Sender
			if e.Type == eventVerified {
				sender = e.Data.Identity
			}
			name := personName(adapters.Channel(e.Data.Channel), sender.ExternalID)
			l.print("app", fmt.Sprintf("%s from %s, role %s", e.Type, name, sender.Role), styleDim)
		}
	}
}

// issueCodes issues a claim code for each line of the console.
func (l *liveLog) issueCodes(ctx context.Context, d *Environment, steve identityResponse) {
	in := bufio.NewReader(d.In)
	for {
		if _, err := in.ReadString('\n'); err != nil || ctx.Err() != nil {
			return
		}
		code, err := d.API.IssueCode(ctx, d.CustomerID, steve.ID)
		if err != nil {
			l.print("staff", "cannot issue a claim code: "+err.Error(), "")
			continue
		}
		l.print("staff", "issues a claim code and reads it to Steve: “"+code.Instructions+"”", "")
	}
}
