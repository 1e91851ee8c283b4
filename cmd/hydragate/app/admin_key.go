package app

import (
	"math"
	"strings"
)

const (
	minAdminKeyLength = 32
	minAdminKeyBits   = 80 // of entropy, estimated from the frequency of the characters
	// minDistinctTriples is the least part of the sequences of three characters that must differ. In
	// random text nearly all do; in repeated words few.
	minDistinctTriples = 0.7
	// maxSteps is the largest part of the characters that may equal their predecessor or be next to
	// it, as in 1234567890.
	maxSteps = 0.65
)

// isGuessable reports whether a key has too little entropy: few different characters, repeated
// parts, or sequences of characters. Random keys of at least minAdminKeyLength characters in any
// alphabet of ten or more characters are not guessable.
func isGuessable(key string) bool {
	chars := []rune(strings.ToLower(key))
	if len(chars) < minAdminKeyLength {
		return true
	}
	n := float64(len(chars))
	counts, triples, steps := map[rune]int{}, map[[3]rune]bool{}, 0
	for i, c := range chars {
		counts[c]++
		if i > 0 && c-chars[i-1] >= -1 && c-chars[i-1] <= 1 {
			steps++
		}
		if i > 1 {
			triples[[3]rune(chars[i-2:i+1])] = true
		}
	}
	bits := 0.0
	for _, count := range counts {
		bits -= float64(count) * math.Log2(float64(count)/n)
	}
	return bits < minAdminKeyBits || float64(len(triples)) < minDistinctTriples*(n-2) || float64(steps) > maxSteps*n
}
