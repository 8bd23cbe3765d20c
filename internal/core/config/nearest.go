package config

// nearest returns the candidate that is most similar to word, the first of several,
// or "" if none is similar enough to suggest.
func nearest(word string, candidates []string) string {
	best := ""
	limit := 2 + len(word)/4 // allows swapped letters in a short word, more in a long one
	for _, c := range candidates {
		if d := distance(word, c); d < min(limit, len(c)) {
			best, limit = c, d
		}
	}
	return best
}

// distance counts the bytes to insert, delete or replace to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
