//go:build !windows

package main

import "io"

// canDraw says whether a terminal understands what moves the cursor.
func canDraw(io.Writer) bool { return true }
