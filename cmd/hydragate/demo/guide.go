package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hydragate/adapters"
)

// runInteractive links Steve's Telegram account, says where everything is and what to try, and
// waits for the end.
func (d *Environment) runInteractive(ctx context.Context) error {
	known, err := d.API.LinkIdentity(ctx, d.CustomerID, d.InstanceID, adapters.Telegram, steveAccount(adapters.Telegram), "Steve")
	if err != nil {
		return fmt.Errorf("link the sample customer: %w", err)
	}
	if _, err := fmt.Fprint(d.Out, d.guide(known)); err != nil {
		return err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// commandName is how the person started this program, and can start it again.
func commandName(arg string) string {
	if strings.Contains(filepath.ToSlash(arg), "/go-build") { // gone when go run ends
		return "go run ./cmd/hydragate"
	}
	return arg
}

// guide is what to know about a running demo.
func (d *Environment) guide(known identityResponse) string {
	var b strings.Builder
	t := newPrinter(&b)
	t.color = supportsColor(d.Out)
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	curl := func(method, path string, body ...byte) string {
		c := "curl -s"
		if method != "GET" {
			c += " -X " + method
		}
		if body != nil {
			c += " -H 'Content-Type: application/json' -d '" + string(body) + "'"
		}
		return c + " -H 'Authorization: Bearer " + d.API.Key + "' '" + d.API.URL + path + "'; echo"
	}
	chat := commandName(os.Args[0]) + " chat"
	if d.controlURL != "http://"+defaultControl {
		chat += " --demo " + d.controlURL
	}
	customer := "/v1/customers/" + d.CustomerID

	line("The demo is running. Ctrl-C ends it and removes its data. Only this machine is involved.")
	t.title("Where to look")
	line("  API reference  %s/docs", d.API.URL)
	line("  Admin key      %s", d.API.Key)
	line("  Instance       %s", d.InstanceID)
	line("  Customer       %s (Steve)", d.CustomerID)
	line("  Identity       %s (Steve's Telegram account %s, linked and not verified)", known.ID, known.ExternalID)
	for _, name := range []string{"Telegram", "Twilio", "Slack"} {
		line("  %-14s %s (pretend)", name, d.Providers.Servers[name].URL)
	}
	t.title("Webhook URLs")
	line("  Telegram       %s", d.WebhookURLs[adapters.Telegram])
	line("  SMS            %s", d.WebhookURLs[adapters.SMS])
	line("  WhatsApp       %s", d.WebhookURLs[adapters.WhatsApp])
	line("  Slack          %s", d.WebhookURLs[adapters.Slack])
	t.title("Try: set a channel up again, or of an instance of your own")
	line("  These accounts are pretended: made anew at each start, known to the providers above and to nobody else.")
	var last string
	for _, a := range d.Providers.ChannelAccounts() {
		body, _ := json.Marshal(a.Body) // texts by name cannot fail
		line("  %-16s %s", a.Name, body)
		last = curl("POST", "/v1/instances/"+d.InstanceID+"/channels/"+string(a.Channel), body...)
	}
	line("  With the last one the gateway connects to Slack (Socket Mode), and chat is heard over the connection:")
	line("       %s", last)
	t.title("Try: the right person with the right code")
	line("  1. In another terminal, be Steve, and ask for your balance:")
	line("       %s --as %s --name Steve", chat, known.ExternalID)
	line("  2. As staff, issue him a code:")
	line("       %s", curl("POST", customer+"/identities/"+known.ID+"/claim-code"))
	line("  3. As Steve, type /claim and the code, then ask again.")
	t.title("Try: somebody whom nobody knows")
	line("  1. Be a stranger by SMS, or on whatsapp or slack:")
	line("       %s --channel sms --as %s", chat, strangerAccount(adapters.SMS))
	line("  2. As staff, see who wrote:")
	line("       %s", curl("GET", "/v1/identities?customer=none"))
	line("  3. Link the sender to Steve, with the id from there in place of IDENTITY, and issue a code:")
	line("       %s", curl("POST", customer+"/identities/IDENTITY/adopt"))
	line("       %s", curl("POST", customer+"/identities/IDENTITY/claim-code"))
	t.title("Try: the wrong person with the right code")
	line("  Issue somebody who is not verified yet a code, as above, and type it as another: the answer is the same as to a wrong code, and they need a new one.")
	line("       %s --as %s", chat, strangerAccount(adapters.Telegram))
	line("")
	return b.String()
}
