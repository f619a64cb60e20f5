package main

import (
	"io"
	"os"

	"golang.org/x/sys/windows"
)

// canDraw has the console understand what moves the cursor; one that is too old for that is no terminal to us.
func canDraw(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	var mode uint32
	console := windows.Handle(f.Fd())
	return windows.GetConsoleMode(console, &mode) == nil &&
		windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
