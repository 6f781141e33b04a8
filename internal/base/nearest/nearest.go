// SPDX-License-Identifier: Apache-2.0

// Package nearest finds the word that somebody probably meant.
package nearest

import (
	"iter"
	"strings"
)

// slips is how many letters may differ.
const slips = 2

// Of returns the word of known that differs least from word, in letters added, removed, changed or swapped, whatever their case; "" if none
// is near enough to be a slip.
func Of(word string, known iter.Seq[string]) string {
	best, least := "", min(slips, max(len(word)-1, 1))+1
	for k := range known {
		d := distance(strings.ToLower(word), strings.ToLower(k))
		if d < least || (d == least && best != "" && k < best) {
			best, least = k, d
		}
	}
	return best
}

// distance counts the letters to add, remove, change, or swap with their neighbour, between two words.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j-1]+cost, row[j-1]+1, last[j]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
