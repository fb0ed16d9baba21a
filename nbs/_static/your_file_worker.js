// Runs Python beside the page "Your own DICOM file", so that the page stays alive. First what reads
// a header, then what makes a picture of the pixels: each step is answered as soon as it can be.
// Every answer carries the number of its file: another may have been dropped meanwhile.
const HEADER = ['pydicom']
const PICTURE = ['numpy', 'pandas', 'pillow', 'joblib']
let settings, python, code

async function start(base) {
  settings = await (await fetch(base + 'browser.json')).json()
  importScripts(settings.pyodide + 'pyodide.js')
  python = await loadPyodide({indexURL: settings.pyodide})
  await python.loadPackage(wheels(base, name => HEADER.includes(name)))
  const source = await (await fetch('your_file.py')).text()
  // in a folder of its own: files of any name are put where Python stands
  python.FS.mkdirTree('/code')
  python.FS.writeFile('/code/your_file.py', source)
  python.runPython('import sys; sys.path.insert(0, "/code")')
  code = python.pyimport('your_file')
}
const wheels = (base, wanted) =>
  Object.entries(settings.wheels).filter(([name]) => wanted(name)).map(([, file]) => base + file)

async function startPicture(base) {
  const needed = name => !HEADER.includes(name)
  await python.loadPackage([...PICTURE, ...wheels(base, needed)])
  // loadPackage only logs what it could not load. And pydicom looks for NumPy once, when imported:
  // only with NumPy there is it imported anew, so that the header can be read without
  python.runPython(`
    import sys, numpy, pandas, PIL
    for name in list(sys.modules):
        if name.partition('.')[0] in ('pydicom', 'your_file'): del sys.modules[name]
    import medtut.dicom`)
  code = python.pyimport('your_file')
}
let started, pictureStarted

async function answer(base, path, say) {
  const header = JSON.parse(code.header(path))
  say({header})
  if (header.error) return say({status: 'Nothing to show. Nothing left your browser.'})
  say({status: 'The header is below. Loading what makes the picture: about 11 MB at the first visit ...'})
  await (pictureStarted ??= startPicture(base))
  say({picture: JSON.parse(code.picture(path))})
  say({identifying: JSON.parse(code.identifying(path))})
  say({status: 'Done. Nothing left your browser.'})
}
onmessage = async ({data: {base, number, name, bytes}}) => {
  const say = what => postMessage({number, ...what})
  const path = name.replace(/[\\/]/g, '_')
  try {
    say({status: 'Loading Python: about 8 MB at the first visit ...'})
    await (started ??= start(base))
    python.FS.writeFile(path, new Uint8Array(bytes))
    await answer(base, path, say)
    python.FS.unlink(path)
  } catch (e) {
    if (!code) started = undefined
    pictureStarted = undefined
    const lines = String(e.message ?? e).trim().split('\n')
    // of Python's traceback the line that names the error
    say({failed: lines.findLast(line => /^\w*Error: /.test(line)) ?? lines[0]})
  }
}
