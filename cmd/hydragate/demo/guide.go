package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hydragate/adapters"
	"hydragate/cmd/hydragate/app"
)

// runInteractive links Steve's Telegram account, prints what to try, and then prints what happens
// until ctx ends.
func (d *Environment) runInteractive(ctx context.Context) error {
	steve, err := d.API.LinkIdentity(ctx, d.CustomerID, d.InstanceID, adapters.Telegram,
		steveAccount(adapters.Telegram), "Steve")
	if err != nil {
		return fmt.Errorf("link the sample customer: %w", err)
	}
	text := d.introduction(steve)
	if d.details {
		text += d.detailText(steve)
	}
	if _, err := fmt.Fprint(d.Out, text); err != nil {
		return err
	}
	d.runLiveLog(ctx, steve)
	return context.Cause(ctx)
}

// commandName returns the command that starts this program again. arg is the name by which it was
// started.
func commandName(arg string) string {
	if strings.Contains(filepath.ToSlash(arg), "/go-build") { // removed when go run ends
		return "go run ./cmd/hydragate"
	}
	return arg
}

// chatCommand returns the command that chats with this demo.
func (d *Environment) chatCommand() string {
	c := commandName(os.Args[0]) + " chat"
	if d.controlURL != "http://"+defaultControl {
		c += " --demo " + d.controlURL
	}
	return c
}

// curlCommand returns a command that calls the API.
func (d *Environment) curlCommand(method, path string, body []byte) string {
	c := "curl -s"
	if method != "GET" {
		c += " -X " + method
	}
	if body != nil {
		c += " -H 'Content-Type: application/json' -d '" + string(body) + "'"
	}
	return c + " -H 'Authorization: Bearer " + d.API.Key + "' '" + d.API.URL + path + "'; echo"
}

func (d *Environment) codePath(identityID string) string {
	return "/v1/customers/" + d.CustomerID + "/identities/" + identityID + "/claim-code"
}

// introduction returns what is printed at the start: at most 20 lines, so that it can be read at a
// glance.
func (d *Environment) introduction(steve identityResponse) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("The demo is running, on this machine only. Ctrl-C stops it and removes its data.")
	line("")
	line("  1. In a second terminal, chat as Steve, a customer:")
	line("       %s", d.chatCommand())
	line("     Ask: What is my balance? The bot does not answer that yet.")
	line("")
	if app.IsTerminal(d.In) {
		line("  2. Press Enter here to issue a claim code for Steve, as your staff would.")
	} else {
		line("  2. In a third terminal, issue a claim code for Steve, as your staff would:")
		line("       %s", d.curlCommand("POST", d.codePath(steve.ID), nil))
	}
	line("")
	line("  3. In the chat, send /claim and the code. Then ask again.")
	line("")
	line("API reference  %s/docs", d.API.URL)
	line("API key        %s", d.API.Key)
	line("More to try    %s demo --details", commandName(os.Args[0]))
	line("")
	return b.String()
}

// detailText returns what is printed with --details.
func (d *Environment) detailText(steve identityResponse) string {
	var b strings.Builder
	t := newPrinter(&b)
	t.color = supportsColor(d.Out)
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	chat := d.chatCommand()

	t.title("IDs and addresses")
	line("  Instance       %s", d.InstanceID)
	line("  Customer       %s (Steve)", d.CustomerID)
	line("  Identity       %s (Steve's Telegram account %s, not verified)", steve.ID, steve.ExternalID)
	for _, name := range []string{"Telegram", "Twilio", "Slack"} {
		line("  %-14s %s (simulated)", name, d.Providers.Servers[name].URL)
	}
	t.title("Webhook URLs")
	for _, c := range []adapters.Channel{adapters.Telegram, adapters.SMS, adapters.WhatsApp, adapters.Slack} {
		line("  %-14s %s", adapters.TraitsOf(c).DisplayName, d.WebhookURLs[c])
	}
	t.title("Connect a channel again, or connect it to an instance of your own")
	line("  Only the simulated providers know these accounts. They are new at each start.")
	var last string
	for _, a := range d.Providers.ChannelAccounts() {
		body, _ := json.Marshal(a.Body) //nolint:errchkjson // contains only strings
		line("  %-16s %s", a.Name, body)
		last = d.curlCommand("POST", "/v1/instances/"+d.InstanceID+"/channels/"+string(a.Channel), body)
	}
	line("  This uses the last account. The gateway then receives messages over Slack's Socket Mode:")
	line("       %s", last)
	t.title("Issue a claim code through the API")
	line("       %s", d.curlCommand("POST", d.codePath(steve.ID), nil))
	t.title("Verify an unknown sender")
	line("  1. Write as a stranger by SMS, or use --channel whatsapp or slack:")
	line("       %s --channel sms --as %s", chat, strangerAccount(adapters.SMS))
	line("  2. As staff, list the unknown senders:")
	line("       %s", d.curlCommand("GET", "/v1/identities?customer=none", nil))
	line("  3. Replace IDENTITY by the id, link the sender to Steve, and issue a code:")
	line("       %s", d.curlCommand("POST", "/v1/customers/"+d.CustomerID+"/identities/IDENTITY/adopt", nil))
	line("       %s", d.curlCommand("POST", d.codePath("IDENTITY"), nil))
	t.title("Send a code from the wrong account")
	line("  Issue a code for an account that is not verified yet, and send it from another account. The code is")
	line("  revoked, and the reply is the same as for a wrong code.")
	line("       %s --as %s", chat, strangerAccount(adapters.Telegram))
	line("")
	return b.String()
}
