package boot_test

import (
	"encoding/csv"
	"os"
	"testing"
	"time"
)

// What is known of hosts that were not there to look at has its source, and the day on
// which that was read.
func TestFamiliesHaveSources(t *testing.T) {
	f, err := os.Open("testdata/families.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll() // and as many columns everywhere
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) < 2 {
		t.Fatal("the table is empty")
	}
	for _, row := range rows[1:] {
		for i, column := range row {
			if column == "" {
				t.Errorf("%v: no %s", row, rows[0][i])
			}
		}
		if _, err := time.Parse(time.DateOnly, row[4]); err != nil {
			t.Error(err)
		}
	}
}
