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
		r.Gone = gone(r.Code)
	default:
		return nil
	}
	return []adapters.Receipt{r}
}

// gone reports whether a code says that nobody has the number: an unknown handset, or
// a landline. A phone that is off has another one.
func gone(code string) bool { return code == "30005" || code == "30006" }

// code keeps an error code that is a number, as all of Twilio's are.
func code(s string) string {
	if len(s) > maxCode || !only(s, isDigit) {
		return ""
	}
	return s
}
