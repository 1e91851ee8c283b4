package sms

import (
	"net/url"

	"hydragate/adapters"
)

const maxCode = 10

// receipts reads a status callback. States before "sent" say nothing that the
// answer to Send did not say.
func receipts(form url.Values) []adapters.Receipt {
	r := adapters.Receipt{ProviderID: form.Get("MessageSid")}
	switch form.Get("MessageStatus") {
	case "sent":
		r.Status = adapters.Sent
	case "delivered", "read":
		r.Status = adapters.Delivered
	case "undelivered", "failed", "canceled":
		r.Status = adapters.Failed
		r.Code = code(form.Get("ErrorCode"))
	default:
		return nil
	}
	return []adapters.Receipt{r}
}

// code keeps an error code that is a number, as all of Twilio's are.
func code(s string) string {
	if len(s) > maxCode || !only(s, isDigit) {
		return ""
	}
	return s
}
