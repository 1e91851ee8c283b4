package process

import (
	"context"
	"errors"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
)

// All calls of the code store for the letters of an ordinary message together take at most lookupTimeout.
// After it did not respond it is not asked for lookupPause. Then one message at a time asks it, for at most
// maxLookup, until it responds, so that neither a chat nor the workers of all chats are held up by every
// message.
const (
	lookupTimeout = 1200 * time.Millisecond
	lookupPause   = time.Second
	maxLookup     = 2 * time.Second // includes the database
)

// A screening is what is known about letters in a message that could be a code or an invite.
type screening struct {
	claim.Exposure
	parsed  claim.ParsedText // the text as a claim
	isClaim bool             // the text concerns claims
	proper  bool             // it is a claim that may redeem its code
	inNames bool             // the sender's names contain such letters
	live    bool             // strings other than the sender's names contain a live code or invite
	unknown bool             // whether such letters are live could not be found out
}

// isBare reports whether the message consists of letters that could be a code.
func (s screening) isBare() bool { return s.isClaim && !s.parsed.Command && !s.parsed.Misread }

// screen finds out whether a message contains a live code or invite: in any string that a person can
// fill, and in any form. Without a live one at the instance it looks nothing up. A proper claim is
// searched in the names of its sender alone.
//
// Names that contain a live code, or whose letters could not be looked up, are removed from in.
func (w *Worker) screen(ctx context.Context, in *gateway.StoredMessage) (s screening, err error) {
	username, err := w.botUsername(ctx, *in)
	if err != nil {
		return s, err
	}
	m := &in.Message
	s.parsed, s.isClaim = claim.Parse(m.Text, username)
	if !s.isClaim && !m.Chat.Group {
		s.parsed, s.isClaim = claim.ParsePrivate(m.Text)
	}
	s.proper = s.isClaim && s.parsed.Command && s.parsed.Code != "" && isPersonal(*m)
	if !in.LiveCodes && !in.LiveInvites {
		return s, nil
	}
	var letters []string
	collect := func(text string) string {
		for _, c := range claim.Scan(text) {
			if claim.IsInviteCode(c.Code) && in.LiveInvites || !claim.IsInviteCode(c.Code) && in.LiveCodes {
				letters = append(letters, c.Code)
			}
		}
		return text
	}
	m.Sender.MapTexts(collect)
	s.inNames = len(letters) > 0
	if !s.proper {
		m.MapTexts(collect)
	}
	if len(letters) == 0 {
		return s, nil
	}
	if err := w.lookUp(ctx, *in, letters, &s); err != nil {
		return s, err
	}
	if s.inNames {
		m.Sender = m.Sender.MapTexts(func(text string) string {
			if containsLetters(text, s.mayBeLive) {
				return ""
			}
			return text
		})
	}
	m.MapTexts(func(text string) string {
		s.live = s.live || !s.proper && containsLetters(text, s.IsLive)
		return text
	})
	return s, nil
}

// isPersonal reports whether the sender wrote the text of m now, in a private conversation.
func isPersonal(m adapters.Message) bool {
	return !m.Chat.Group && m.UnprovenReason == "" && m.Kind == adapters.Text
}

// lookUp sets the exposure of s. If the code store does not respond, it is asked once more within
// lookupTimeout.
func (w *Worker) lookUp(ctx context.Context, in gateway.StoredMessage, letters []string, s *screening) (err error) {
	a := w.newAttempt(in, claim.ParsedText{})
	if s.isBare() && in.HasLiveCode && isPersonal(in.Message) {
		a.Code = s.parsed.Code
	}
	now, resume := w.Now(), w.lookupsResume.Load()
	skip := now.UnixNano() < resume ||
		resume > 0 && !w.lookupsResume.CompareAndSwap(resume, now.Add(maxLookup).UnixNano())
	claims := &claim.Service{Store: w.Claims.Store, Codes: unavailableCodes{}}
	if !skip {
		claims.Codes = limitedCodes{w.Claims.Codes, time.Now().Add(lookupTimeout)}
	}
	for range 2 {
		if s.Exposure, err = claims.FindExposed(ctx, a, letters); !errors.Is(err, claim.ErrCodeStoreUnavailable) {
			break
		}
	}
	switch {
	case errors.Is(err, claim.ErrCodeStoreUnavailable) && !skip:
		w.lookupsResume.Store(w.Now().Add(lookupPause).UnixNano())
		w.Log.WarnContext(ctx, "look up possible codes failed, withholding them", "message", in.ID, "error", err)
		fallthrough
	case errors.Is(err, claim.ErrCodeStoreUnavailable), errors.Is(err, claim.ErrTooManyCandidates):
		s.unknown = true
		return nil
	}
	if !skip && resume > 0 && s.Codes != nil {
		w.lookupsResume.Store(0)
	}
	return err
}

// limitedCodes is a claim.CodeStore whose look-ups end at a deadline.
type limitedCodes struct {
	claim.CodeStore
	deadline time.Time
}

func (c limitedCodes) Find(
	ctx context.Context, target claim.Target, codes []string,
) (map[string]claim.Target, error) {
	ctx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	return c.CodeStore.Find(ctx, target, codes)
}

func (c limitedCodes) Peek(ctx context.Context, target claim.Target, code string) (claim.Result, error) {
	ctx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	return c.CodeStore.Peek(ctx, target, code)
}

// unavailableCodes is a claim.CodeStore that does not respond.
type unavailableCodes struct{ claim.CodeStore }

func (unavailableCodes) Find(context.Context, claim.Target, []string) (map[string]claim.Target, error) {
	return nil, claim.ErrCodeStoreUnavailable
}

// mayBeLive reports whether letters are a live code or invite, or could not be looked up.
func (s screening) mayBeLive(letters string) bool { return s.unknown || s.IsLive(letters) }

// containsLetters reports whether text contains letters for which is returns true.
func containsLetters(text string, is func(letters string) bool) bool {
	for _, c := range claim.Scan(text) {
		if is(c.Code) {
			return true
		}
	}
	return false
}

// withhold replaces all letters that could be a code in the strings of m.
func withhold(m adapters.Message) adapters.Message {
	return m.MapTexts(func(text string) string { return claim.Withhold(text, claim.Scan(text)) })
}

// handleExposed decides about a message that contains a live code or invite, and is no proper claim. It
// is not delivered, and what is stored of it remains redacted. The letters of a code alone are a claim.
func (w *Worker) handleExposed(
	ctx context.Context, in gateway.StoredMessage, d decision, s screening,
) (decision, error) {
	m, public := in.Message, in.Message.Chat.Group
	a := w.newAttempt(in, s.parsed)
	_, isCode := s.Codes[s.parsed.Code]
	isAttempt := s.isBare() && isCode && isPersonal(m)
	pastLimit := s.isClaim && !s.parsed.Command && s.BareMisses >= claim.MaxBareMisses
	if isAttempt && !pastLimit {
		return w.handleClaim(ctx, in, d, s.parsed)
	}
	r := w.Claims.DecideExposure(a, s.Exposure, public)
	r.Attempt.Code = ""
	d.claim, d.commitNow = &r, true
	switch {
	case m.Sender.ID == "" || in.SenderBlocked || pastLimit:
		d.outcome = "withheld"
		return d, nil
	case public:
		return w.reply(in, d, "not_private", textPrivateOnly), nil
	case m.UnprovenReason != "" || m.Kind != adapters.Text:
		return w.reply(in, d, "not_proven", notProvenText(m)), nil
	case len(s.Invites) > 0:
		return w.reply(in, d, "hint", textInviteHint), nil
	}
	return w.reply(in, d, "hint", textHint), nil
}

// countMiss counts a message with letters that could be a code, and are none.
func (w *Worker) countMiss(in gateway.StoredMessage, d decision, s screening) decision {
	kind := claim.TextMiss
	if s.isBare() {
		kind = claim.BareMiss
	}
	if r, ok := s.CountMiss(w.newAttempt(in, claim.ParsedText{}), kind); ok {
		d.claim, d.commitNow = &r, true
	}
	return d
}
