package adapters

import (
	"slices"
	"testing"
	"time"
)

func TestTraitsOf(t *testing.T) {
	const code, text = "ABCDEFGHJKLM", "/claim ABCD-EFGH-JKLM"
	for channel, want := range map[Channel]struct {
		traits            Traits
		ep                Endpoint
		link, address     string
		addressUnnamedBot string
	}{
		Telegram: {
			traits: Traits{
				DisplayName: "Telegram", IDFormat: NumericID, ProviderRetries: true, SecretSetByGateway: true,
				GracePeriod: 10 * time.Minute,
			},
			ep:      Endpoint{Address: "1", Settings: map[string]string{BotUsername: "acme_bot"}},
			link:    "https://t.me/acme_bot?start=claim_" + code,
			address: "@acme_bot on Telegram", addressUnnamedBot: "the Telegram bot",
		},
		SMS: {
			traits: Traits{
				DisplayName: "SMS", IDFormat: PhoneID, Paid: true, CarrierOnly: true, GracePeriod: 24 * time.Hour,
			},
			ep:      Endpoint{Address: "+61400111222"},
			link:    "sms:+61400111222?body=%2Fclaim%20ABCD-EFGH-JKLM",
			address: "+61400111222 by SMS", addressUnnamedBot: " by SMS",
		},
		WhatsApp: {
			traits: Traits{
				DisplayName: "WhatsApp", IDFormat: PhoneOrUserID, Paid: true, CarrierOnly: true, GracePeriod: 24 * time.Hour,
			},
			ep:      Endpoint{Address: "+61400111222"},
			link:    "https://wa.me/61400111222?text=%2Fclaim%20ABCD-EFGH-JKLM",
			address: "+61400111222 on WhatsApp", addressUnnamedBot: " on WhatsApp",
		},
		Slack: {
			traits: Traits{
				DisplayName: "Slack", IDFormat: TeamUserID, ProviderRetries: true, GracePeriod: 24 * time.Hour,
				WebhookSuffix: "/events",
			},
			ep:      Endpoint{Settings: map[string]string{TeamName: "Acme"}},
			address: "the bot in the Slack workspace Acme", addressUnnamedBot: "the Slack bot",
		},
		"pigeon": {
			traits:  Traits{DisplayName: "pigeon", ProviderRetries: true, GracePeriod: 24 * time.Hour},
			address: "the pigeon bot", addressUnnamedBot: "the pigeon bot",
		},
	} {
		got := TraitsOf(channel)
		if link := got.InviteLink(want.ep, code, text); link != want.link {
			t.Errorf("TraitsOf(%q).InviteLink() = %q, want %q", channel, link, want.link)
		}
		if address := got.BotAddress(want.ep); address != want.address {
			t.Errorf("TraitsOf(%q).BotAddress() = %q, want %q", channel, address, want.address)
		}
		if address := got.BotAddress(Endpoint{}); address != want.addressUnnamedBot {
			t.Errorf("TraitsOf(%q).BotAddress(Endpoint{}) = %q, want %q", channel, address, want.addressUnnamedBot)
		}
		got.inviteLink, got.botAddress = nil, nil
		if !equalTraits(got, want.traits) {
			t.Errorf("TraitsOf(%q) = %+v, want %+v", channel, got, want.traits)
		}
	}
}

func equalTraits(a, b Traits) bool {
	return a.DisplayName == b.DisplayName && a.IDFormat == b.IDFormat && a.Paid == b.Paid &&
		a.ProviderRetries == b.ProviderRetries && a.CarrierOnly == b.CarrierOnly &&
		a.SecretSetByGateway == b.SecretSetByGateway && a.GracePeriod == b.GracePeriod && a.WebhookSuffix == b.WebhookSuffix
}

func TestChannels_HaveTraits(t *testing.T) {
	if got, want := len(traits), len(Channels()); got != want {
		t.Errorf("len(traits) = %d, want %d", got, want)
	}
	for _, c := range Channels() {
		if _, ok := traits[c]; !ok {
			t.Errorf("channel %q has no traits", c)
		}
	}
}

func TestChannelsWith(t *testing.T) {
	got := ChannelsWith(func(t Traits) bool { return t.Paid })
	if want := []Channel{SMS, WhatsApp}; !slices.Equal(got, want) {
		t.Errorf("ChannelsWith(Paid) = %q, want %q", got, want)
	}
	if got := ChannelsWith(func(Traits) bool { return false }); got != nil {
		t.Errorf("ChannelsWith(none) = %q, want none", got)
	}
}
