package sim

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestAll(t *testing.T) {
	for _, s := range []Sized{{100, 512, 40}, {1000, 256, 40}} {
		for _, sc := range Scenarios(s, 1) {
			if w := os.Getenv("ONLY"); w != "" && !strings.Contains(w, sc.Name) {
				continue
			}
			began := time.Now()
			o := sc.Play()
			fmt.Println(sc.Row(o), time.Since(began))
			if os.Getenv("CURVE") != "" {
				fmt.Printf("%.2f\n", o.Curve)
				for _, d := range o.Times(sc.Config) {
					fmt.Printf("%.1f ", d.Seconds())
				}
				fmt.Printf("\npasses %d credits %d\n", o.Passes, o.Credits)
			}
		}
	}
}
