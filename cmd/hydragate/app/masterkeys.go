package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"hydragate/store"
)

// NewKeyID names a key: no two of one database may have one name.
func NewKeyID() string { return "k" + time.Now().UTC().Format("20060102T150405") }

const (
	maxPasses        = 5 // over rows that somebody was writing
	progressInterval = time.Second
	passInterval     = 200 * time.Millisecond
)

// Reencrypt seals everything anew, as often as it takes for nothing to be left on a key
// that is here. What it cannot is left to report.
func Reencrypt(ctx context.Context, s *store.Store, out io.Writer) error {
	all := 0
	said := time.Now()
	for range maxPasses {
		stuck := 0
		err := s.Reencrypt(ctx, func(r store.ReencryptProgress) {
			all += r.Reencrypted
			stuck += r.Corrupt + r.Missing
			if time.Since(said) >= progressInterval {
				said = time.Now()
				fmt.Fprintf(out, "%d sealed anew, at %s\n", all, r.Column)
			}
		})
		if err != nil {
			return err
		}
		left, err := countRemaining(ctx, s)
		if err != nil {
			return err
		}
		if left <= stuck {
			break
		}
		select {
		case <-time.After(passInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	_, err := fmt.Fprintf(out, "%d values sealed anew\n", all)
	return err
}

// countRemaining counts the values on other keys than the first.
func countRemaining(ctx context.Context, s *store.Store) (n int, err error) {
	hanging, err := s.KeyUsage(ctx)
	for _, h := range hanging {
		if !h.Primary {
			n += h.Values()
		}
	}
	return n, err
}

func DescribeKeyUsage(h store.KeyUsage, own bool) string {
	switch {
	case !h.Available:
		return fmt.Sprintf("%.40q is not among the keys given and something needs it: %s", h.Key, formatCounts(h))
	case h.Values() > 0:
		return fmt.Sprintf("%s must stay: %s; when this does not end, a gateway seals with it, or values were changed", h.Key, formatCounts(h))
	case h.Codes > 0 && own:
		return fmt.Sprintf("%s stays until %s for %s; the gateway takes it out then", h.Key, h.CodesUntil.Format(time.RFC3339), formatCounts(h))
	case h.Codes > 0:
		return fmt.Sprintf("%s can be taken out of HYDRAGATE_MASTER_KEYS from %s on: until then %s", h.Key, h.CodesUntil.Format(time.RFC3339), formatCounts(h))
	}
	if own {
		return fmt.Sprintf("nothing needs %s any more: the gateway takes it out within two minutes", h.Key)
	}
	return fmt.Sprintf("%s can be taken out of HYDRAGATE_MASTER_KEYS now", h.Key)
}

func formatCounts(h store.KeyUsage) string {
	var parts []string
	for _, column := range slices.Sorted(maps.Keys(h.Sealed)) {
		parts = append(parts, fmt.Sprintf("%d %s", h.Sealed[column], column))
	}
	if h.Codes > 0 {
		parts = append(parts, fmt.Sprintf("%d claim codes and invites", h.Codes))
	}
	return strings.Join(parts, ", ")
}

// CheckKeyUsage says which keys are to go and still needed, or needed and missing.
func CheckKeyUsage(ctx context.Context, s *store.Store) error {
	hanging, err := s.KeyUsage(ctx)
	if err != nil {
		return err
	}
	var ill []string
	for _, h := range hanging {
		switch {
		case h.Primary || h.IsUnused():
		case !h.Available:
			ill = append(ill, fmt.Sprintf("%.40q is missing for %s", h.Key, formatCounts(h)))
		case h.Values() > 0:
			ill = append(ill, fmt.Sprintf("%s is still needed for %s: hydragate masterkey rotate", h.Key, formatCounts(h)))
		}
	}
	if len(ill) > 0 {
		return errors.New(strings.Join(ill, "; "))
	}
	return nil
}
