// Package browser tries the operator page in a real Chromium, and takes its pictures for the documents.
//
// It is a module of its own, so that what drives the browser is no dependency of the program.
package browser
