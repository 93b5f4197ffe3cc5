// Package page is what people look at in a browser: how far each source is, dead letters, runs, the findings of the
// doctor, and one child's personality over time.
//
//	./                          health with its reasons, lag and rate of the last hour, sources, dead letters, last runs
//	./source?name=              one source
//	./instances                 who shares the sources
//	./dead?reason=&source=...   dead letters, newest first
//	./letter?source=&position=  one of them
//	./confirm?do=&...           what retry or drop would do, with a button
//	./retry, ./drop             POST: the actions
//	./runs?kind=, ./run?id=     records of runs
//	./doctor                    checks of both servers
//	./profile?id=               one child profile: personality over time
//	./explain?profile=&history= which events made a snapshot
//	./zone                      POST: in which time zone times are shown
//	./login                     asks for a login
//
// Pages are made here (html/template, SVG), and work without script. The script only loads marked parts again, and
// copies ids. All links are relative and all paths have one segment, so that the page works under any path prefix
// that a proxy takes off. Who may see and do what is decided before, by package access.
//
// Nothing here decides anything about events: it reads what commands read, and does what they do. While PostgreSQL or
// Redis cannot be reached, the pages say so and show what is known.
package page
