-- Says what an edition says: replaces the phrases of `edition.words` (a catalogue such as
-- code/lazy_artist/assets/fashion.yml, among the metadata) in prose, captions and alternative texts,
-- by the rules of lazy_artist.edition.words. Both builders run it. Code and mathematics stay, and so
-- do the chapters that the catalogue lists as the same. Of a phrase "@x", citations of x change.

local replacements, cited = {}, {}
local active = false  -- whether this chapter speaks as the edition does
local lengths = {}  -- by the first word of a phrase: of how many words the longest is

local function capital(text)
  return text:sub(1, 1):upper() .. text:sub(2)
end

local function read(words)
  for phrase, said in pairs(words) do
    said = pandoc.utils.stringify(said):gsub("’", "'")
    if phrase:sub(1, 1) == "@" then
      cited[phrase:sub(2)] = said:sub(2)
    else
      local count = select(2, phrase:gsub("%S+", ""))
      for _, turned in ipairs({ phrase, capital(phrase) }) do
        local first = turned:match("^%w+")
        lengths[first] = math.max(lengths[first] or 0, count)
      end
      replacements[phrase] = said
    end
  end
  for phrase, said in pairs(words) do  -- a phrase as it stands comes before another's capital
    local turned = capital(phrase)
    replacements[turned] = replacements[turned] or capital(replacements[phrase] or "")
  end
end

-- The longest phrase that begins at byte `at` and ends at a word's end, as it stands in the text.
local function phrase_at(text, at)
  local stop, ends = at, {}
  for _ = 1, lengths[text:match("^%w+", at)] or 0 do
    local first, last = text:find("%S+", stop)
    if not first then break end
    for inner = first, last do  -- a phrase may end within a word: at a hyphen, a full stop
      if not text:sub(inner + 1, inner + 1):find("%w") then ends[#ends + 1] = inner end
    end
    stop = last + 1
  end
  for i = #ends, 1, -1 do
    local found = text:sub(at, ends[i])
    local plain = found:gsub("’", "'"):gsub("“", '"'):gsub("”", '"')
    if replacements[plain] then
      local said = replacements[plain]
      return ends[i], found:find("’") and said:gsub("'", "’") or said
    end
  end
end

local function translated(text)
  local parts, at = {}, 1
  while at <= #text do
    local first = text:find("%w", at)
    if not first then break end
    parts[#parts + 1] = text:sub(at, first - 1)
    local last, said = phrase_at(text, first)
    if not last then  -- on to the next word
      last = text:find("%W", first)
      last = last and last - 1 or #text
      said = text:sub(first, last)
    end
    parts[#parts + 1] = said
    at = last + 1
  end
  return table.concat(parts) .. text:sub(at)
end

-- The text of what a phrase may run through: words, and words in quotation marks; else nil.
local function text_of(inline)
  if inline.t == "Str" then return inline.text end
  if inline.t == "Space" or inline.t == "SoftBreak" then return " " end
  if inline.t ~= "Quoted" or inline.quotetype ~= "DoubleQuote" then return nil end
  local text = ""
  for _, inner in ipairs(inline.content) do
    local more = text_of(inner)
    if not more then return nil end
    text = text .. more
  end
  return "“" .. text .. "”"
end

local function inlines(list)
  if not active then return nil end
  local new, run = pandoc.Inlines{}, pandoc.Inlines{}
  local function flush()
    local text = ""
    for _, inline in ipairs(run) do
      text = text .. text_of(inline)
    end
    local said = translated(text)
    if said == text then
      new:extend(run)
    else
      local lead, trail = said:match("^%s*"), said:match("%s*$")
      if lead ~= "" then new:insert(pandoc.Space()) end
      local started = false
      for word in said:gmatch("%S+") do
        if started then new:insert(pandoc.Space()) end
        new:insert(pandoc.Str(word))
        started = true
      end
      if trail ~= "" and started then new:insert(pandoc.Space()) end
    end
    run = pandoc.Inlines{}
  end
  for _, inline in ipairs(list) do
    if text_of(inline) then
      run:insert(inline)
    else
      flush()
      new:insert(inline)
    end
  end
  flush()
  return new
end

local function attributes(element)
  if not active then return nil end
  for _, name in ipairs({ "alt", "fig-alt", "fig-cap", "tbl-cap", "title" }) do
    local text = element.attributes[name]
    if text then element.attributes[name] = translated(text) end
  end
  return element
end

local function cite(element)
  for _, citation in ipairs(element.citations) do
    citation.id = cited[citation.id] or citation.id
  end
  return element
end

local function stem(meta)
  local file = quarto and quarto.doc and quarto.doc.input_file
  file = file or (meta.chapter and pandoc.utils.stringify(meta.chapter)) or ""
  return file:match("([^/\\]+)%.qmd$") or file
end

-- A float of Quarto's has a copy of its figure's alternative text.
return {
  {
    Meta = function(meta)
      local edition = meta.edition
      if not edition or not edition.words then return end
      for _, same in ipairs(edition.same or {}) do
        if pandoc.utils.stringify(same) == stem(meta) then return end
      end
      read(edition.words)
      active = true
    end,
  },
  {
    Inlines = inlines, Image = attributes, Div = attributes, Span = attributes, Cite = cite,
    FloatRefTarget = attributes,
  },
}
