// An app on Node's http server: echoes, hints early, closes idle connections soon.
const http = require('node:http')

const server = http.createServer((request, response) => {
  const chunks = []
  request.on('data', chunk => chunks.push(chunk))
  request.on('end', () => {
    if (request.url === '/hints') response.writeEarlyHints({ link: '</style.css>; rel=preload; as=style' })
    if (request.url === '/trailers') {
      response.writeHead(200, { Trailer: 'X-Sum' })
      response.write('body')
      response.addTrailers({ 'X-Sum': '4' })
      return response.end()
    }
    const seen = { method: request.method, path: request.url, headers: request.rawHeaders, body: Buffer.concat(chunks).toString('latin1') }
    const text = JSON.stringify(seen)
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) })
    response.end(text)
  })
})
server.keepAliveTimeout = 500
server.listen(Number(process.argv[2]), '127.0.0.1')
