package service

import (
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string { return message.NewPrinter(language.English).Sprint(n) }
