// get.mjs URL [FILE]: with the token of the file, if there is one.
import { readFileSync } from 'node:fs'
const [url, file] = process.argv.slice(2)
const headers = file ? { authorization: 'Bearer ' + readFileSync(file, 'utf8') } : {}
const answer = await fetch(url, { headers })
if (!answer.ok) throw new Error(answer.status + ' ' + await answer.text())
process.stdout.write(Buffer.from(await answer.arrayBuffer()))
